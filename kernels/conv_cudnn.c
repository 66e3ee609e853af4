/* conv_cudnn.c - convolution and its gradients by cuDNN, where it is found when the program runs.
 *
 * A plan is made once for each shape, direction and setting, when its scratch memory is asked for,
 * and kept for good: a recorded graph goes on using its code. Without --autotune it is the first
 * that the heuristics offer; with it, the first run times up to CANDIDATES of them and the kernel
 * of our own on the real tensors, unless it is being recorded, and keeps the fastest.
 *
 * The same slots stand in both tables: with K_MIXED_BF16 they are called from that for bf16, else
 * from that for float32.
 *
 * Scratch: cuDNN's workspace, or what the kernel of our own wants, which takes over what cuDNN has
 * no engine for. Of float32 that is whichever is more, as it also takes over what lies at odd
 * places; bf16 does not, and our own kernel for it wants much, so there it is the workspace alone
 * where there is an engine.
 *
 * Surprising: rows that are not dense cost a copy. The plan for a channel slice wants as much more
 * workspace as the slice has bytes, which is where cuDNN packs it. */
#include <cudnn.h>

#include "plans_cudnn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 8, TIMED_RUNS = 3 };

/* The tables as they were before, for what cuDNN cannot do; the second is that for bf16. */
static k_table own[2];

static int is_mixed(void) { return k_precision_now() == K_MIXED_BF16; }
static const k_table *ours(void) { return &own[is_mixed()]; }

/* ------------------------------------------------------------------------------------ the plans */

typedef struct {
    k_problem p;
    k_plan plan[CANDIDATES];
    int plans;         /* 0: the kernel of our own */
    int tuned;         /* plan[0] is the fastest, not only the first */
    int64_t workspace; /* the largest of them, in bytes */
} entry;

static struct {
    entry **slot; /* open addressing; a power of two, at most half of it in use */
    size_t slots, used;
    int without; /* problems that have no plan */
} cache;

static size_t hash(const k_problem *p) {
    const unsigned char *b = (const unsigned char *)p;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < sizeof *p; i++) h = (h ^ b[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static entry **slot_of(entry **slot, size_t slots, const k_problem *p) {
    size_t i = hash(p) & (slots - 1);
    while (slot[i] && memcmp(&slot[i]->p, p, sizeof *p)) i = (i + 1) & (slots - 1);
    return &slot[i];
}

static int grow(void) {
    size_t slots = cache.slots ? 2 * cache.slots : 256;
    entry **slot = calloc(slots, sizeof *slot);
    if (!slot) return -1;
    for (size_t i = 0; i < cache.slots; i++)
        if (cache.slot[i]) *slot_of(slot, slots, &cache.slot[i]->p) = cache.slot[i];
    free(cache.slot);
    cache.slot = slot, cache.slots = slots;
    return 0;
}

/* The largest workspace among the plans. */
static void count_scratch(entry *e) {
    e->workspace = 0;
    for (int i = 0; i < e->plans; i++)
        if (e->plan[i].workspace > e->workspace) e->workspace = e->plan[i].workspace;
}

/* The plans for that problem with a workspace of at most `limit` bytes, made if there are none yet;
 * NULL: no memory for them. */
static entry *entry_for(const k_problem *p, int64_t limit) {
    if (2 * (cache.used + 1) > cache.slots && grow()) return NULL;
    entry **slot = slot_of(cache.slot, cache.slots, p);
    if (*slot) return *slot;
    entry *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->p = *p;
    k_place place = {.handle = k_cudnn_handle()};
    if (place.handle)
        e->plans = k_find_plans(p, place, limit, k_autotune() ? CANDIDATES : 1, e->plan, NULL, 0);
    cache.without += !e->plans && !p->joined;
    count_scratch(e);
    cache.used++;
    return *slot = e;
}

const char *k_cudnn_why(void) {
    static char text[2500];
    if (!cache.without) return k_cudnn_found();
    snprintf(text, sizeof text, "%s; %d convolutions without an engine, by kernels of our own",
             k_cudnn_found(), cache.without);
    return text;
}

/* ----------------------------------------------------------------------------------- one call */

/* What a slot was called with; it writes y, x or w by its direction. */
typedef struct {
    const k_conv *s;
    k_direction direction;
    float *x, *w, *y; /* or bf16, as kernels.h has it */
    const float *bias;
    int relu; /* of a forward one: behind it */
    void *scratch;
} call;

static int is_empty(const k_conv *s) {
    return !s->n || !s->h || !s->w || !s->c || !s->oh || !s->ow || !s->o || !s->kh || !s->kw;
}

static void run_own(const call *c) {
    const k_table *t = ours();
    if (c->relu) {
        k_join j = {.bias = c->bias, .relu = 1};
        t->conv_joined(c->s, &j, c->x, c->w, c->y, c->scratch);
        return;
    }
    if (c->direction == K_FORWARD) t->conv_forward(c->s, c->x, c->w, c->bias, c->y, c->scratch);
    if (c->direction == K_DATA_GRAD) t->conv_data_grad(c->s, c->y, c->w, c->x, c->scratch);
    if (c->direction == K_WEIGHT_GRAD) t->conv_weight_grad(c->s, c->x, c->y, c->w, c->scratch);
}

/* What the graph did not do, in passes of its own. */
static void finish(const call *c, int joined) {
    static const float none[2] = {0, 0};
    k_loop l = {.nd = 2,
                .size = {c->s->n * c->s->oh * c->s->ow, c->s->o},
                .sy = {c->s->ldy, 1},
                .sa = {c->s->ldy, 1},
                .sb = {0, 1}};
    if (c->bias && !(joined & K_BIAS)) ours()->add(&l, c->y, c->y, c->bias, NULL, none);
    if (c->relu && !(joined & K_RELU)) ours()->relu(&l, c->y, c->y, NULL, NULL, none);
}

static int run(const entry *e, const k_plan *plan, const call *c, char *why, size_t n) {
    static const k_tensor names[] = {K_X, K_W, K_Y, K_BIAS_OF_Y};
    void *pointers[] = {c->x, c->w, c->y, (void *)c->bias};
    if (k_run_plan(plan, k_cudnn_handle(), e->p.joined & K_BIAS ? 4 : 3, names, pointers,
                   plan->workspace ? c->scratch : NULL, why, n))
        return -1;
    finish(c, e->p.joined);
    return 0;
}

/* ------------------------------------------------------------------------------------ autotuning
 */

static int is_being_recorded(void) {
    enum cudaStreamCaptureStatus status;
    return cudaStreamIsCapturing(k_stream(), &status) != cudaSuccess ||
           status != cudaStreamCaptureStatusNone;
}

/* Milliseconds of TIMED_RUNS runs after a first one; below 0: it fails. NULL: the kernel of our
 * own. */
static float time_of(const entry *e, const k_plan *plan, const call *c, cudaEvent_t begin,
                     cudaEvent_t end) {
    char why[400];
    float time = -1;
    for (int i = 0; i <= TIMED_RUNS; i++) {
        if (i == 1) cudaEventRecord(begin, k_stream());
        if (!plan)
            run_own(c);
        else if (run(e, plan, c, why, sizeof why))
            return -1;
    }
    cudaEventRecord(end, k_stream());
    if (cudaEventSynchronize(end) != cudaSuccess) return -1;
    return cudaEventElapsedTime(&time, begin, end) == cudaSuccess ? time : -1;
}

/* Keeps the fastest of the plans, or none if the kernel of our own is, which is not tried for bf16.
 */
static void tune(entry *e, const call *c) {
    cudaEvent_t begin, end;
    if (cudaEventCreate(&begin) != cudaSuccess) return;
    if (cudaEventCreate(&end) != cudaSuccess) {
        cudaEventDestroy(begin);
        return;
    }
    int best = -1;
    float least = is_mixed() ? -1 : time_of(e, NULL, c, begin, end);
    for (int i = 0; i < e->plans; i++) {
        float time = time_of(e, &e->plan[i], c, begin, end);
        if (time >= 0 && (least < 0 || time < least)) best = i, least = time;
    }
    if (best < 0 && is_mixed())
        best = 0; /* none could be timed, and our own has no scratch memory */
    for (int i = 0; i < e->plans; i++)
        if (i != best) k_free_plan(&e->plan[i]);
    if (best > 0) e->plan[0] = e->plan[best];
    e->plans = best >= 0;
    e->tuned = 1;
    count_scratch(e);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
}

/* ------------------------------------------------------------------------------------- the slots
 */

/* The plans of a convolution with full alignment, or NULL. */
static entry *aligned_entry(const k_conv *s, k_direction direction, int joined) {
    k_problem p;
    k_fill_problem(&p, s, direction, joined, k_precision_now());
    return entry_for(&p, K_MOST_WORKSPACE);
}

static int has_plan(const entry *e) { return e && e->plans; }

/* What the convolution alone needs, and with `joined` in its graph, where there is an engine for
 * that; `bytes`: what our own does. */
static int64_t scratch_of(const k_conv *s, k_direction direction, int joined, int64_t bytes) {
    if (is_empty(s)) return bytes;
    entry *alone = aligned_entry(s, direction, 0);
    entry *with = joined ? aligned_entry(s, direction, joined) : NULL;
    if (has_plan(alone)) {
        if (is_mixed()) bytes = 0;
        if (alone->workspace > bytes) bytes = alone->workspace;
    }
    return has_plan(with) && with->workspace > bytes ? with->workspace : bytes;
}

static int64_t conv_scratch(const k_conv *s, k_direction direction) {
    return scratch_of(s, direction, direction == K_FORWARD ? K_BIAS : 0,
                      ours()->conv_scratch(s, direction));
}

/* Bias and ReLU, as our own kernels do; what else there is to join is not offered. */
static int64_t conv_joined_scratch(const k_conv *s, const k_join *j) {
    int64_t own = ours()->conv_joined_scratch(s, j);
    return own < 0 ? own : scratch_of(s, K_FORWARD, j->relu ? K_BIAS | K_RELU : K_BIAS, own);
}

static const char *conv_method(const k_conv *s, k_direction direction) {
    return !is_empty(s) && has_plan(aligned_entry(s, direction, 0))
               ? "cuDNN"
               : ours()->conv_method(s, direction);
}

static int is_aligned(const call *c) {
    return ((uintptr_t)c->x | (uintptr_t)c->w | (uintptr_t)c->y) % 16 == 0;
}

/* The plans of the convolution alone for these pointers: what lies at odd places has other plans,
 * which have to do with the memory that was given. */
static entry *entry_of_call(const call *c) {
    if (is_aligned(c)) return aligned_entry(c->s, c->direction, 0);
    k_problem p;
    k_fill_problem(&p, c->s, c->direction, 0, k_precision_now());
    p.align = 4;
    k_join j = {.bias = c->bias, .relu = c->relu};
    int64_t room = c->relu ? conv_joined_scratch(c->s, &j) : conv_scratch(c->s, c->direction);
    entry *e = entry_for(&p, room);
    return e && e->workspace <= room ? e : NULL;
}

/* The same with bias and ReLU in the graph; NULL: not so. For odd places cuDNN offers the very
 * engines that it has for others, so these are not trusted there. */
static entry *joined_entry(const call *c) {
    if (!c->bias || !is_aligned(c) || (uintptr_t)c->bias % 16) return NULL;
    entry *e = aligned_entry(c->s, c->direction, c->relu ? K_BIAS | K_RELU : K_BIAS);
    return e && (e->plans || e->tuned) ? e : NULL;
}

static void convolve(const call *c) {
    char why[400];
    entry *e = NULL;
    if (!is_empty(c->s)) {
        e = joined_entry(c);
        if (!e) e = entry_of_call(c);
    }
    if (e && e->plans && k_autotune() && !e->tuned && !is_being_recorded()) tune(e, c);
    if (!e || !e->plans)
        run_own(c);
    else if (run(e, &e->plan[0], c, why, sizeof why))
        k_failed("conv2d: cuDNN: %s", why);
}

static void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias,
                         float *y, void *scratch) {
    convolve(&(call){s, K_FORWARD, (float *)x, (float *)w, y, bias, 0, scratch});
}

static void conv_joined(const k_conv *s, const k_join *j, const float *x, const float *w, float *y,
                        void *scratch) {
    convolve(&(call){s, K_FORWARD, (float *)x, (float *)w, y, j->bias, j->relu, scratch});
}

static void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                           void *scratch) {
    convolve(&(call){s, K_DATA_GRAD, dx, (float *)w, (float *)dy, NULL, 0, scratch});
}

static void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                             void *scratch) {
    convolve(&(call){s, K_WEIGHT_GRAD, (float *)x, dw, (float *)dy, NULL, 0, scratch});
}

static void take_over(k_table *t) {
    t->conv_forward = conv_forward;
    t->conv_joined = conv_joined;
    t->conv_joined_scratch = conv_joined_scratch;
    t->conv_method = conv_method;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
}

int k_conv_cudnn(k_table *t, k_table *narrow) {
    if (!k_cudnn()) return -1;
    own[0] = *t, own[1] = *narrow;
    take_over(t);
    take_over(narrow);
    return 0;
}
