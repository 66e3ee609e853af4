/* pool_simd.h - max and average pooling of channels-last pictures, for AVX2 and AVX-512 alike.
 *
 * Forward walks the output pixels, the gradients the input pixels: both fold, for a pixel, the taps
 * that connect it to pixels of the other side, so every result is written once and no two threads
 * write the same. A row is cut into runs of pixels whose taps lie alike, the same runs for every
 * row; a vector holds neighbouring channels of one pixel. Memory-bound: x and y are moved once,
 * plus a byte an output for the index of a maximum; a large result goes past the caches.
 *
 * Surprising: a gradient's run takes every sw-th pixel of a row, as neighbours see other taps of
 * other windows. The taps are added in the order in which the plain loops scatter them. */
#include "element.h"
#include "kernels.h"
#include "pool_window.h"

#if K_SIMD

#include <math.h>

enum {
    GRAIN = 1 << 15, /* elements a thread takes at once */
    RUNS = 32,       /* in a row, and */
    STEP = 4,        /* pixels in a cell, at most: what has more stays plain */
    LINE = 64        /* bytes of a cache line */
};

/* The taps of a pixel within a row: they lead to `taps` pixels of the other side from `from` on. */
typedef struct {
    int64_t from, taps;
    int tap;     /* the number of the first one */
    float share; /* of one of them in an average, among those of its row */
} link;

/* `count` cells of `pixels` neighbours in a row from `first` on; what the taps of a cell lead to
 * lies `advance` pixels further on than what those of the one before do. */
typedef struct {
    int64_t first, pixels, count, advance;
    link link[STEP];
} run;

typedef struct {
    const k_pool *s;
    k_axis ay, ax;
    int64_t runs;
    run run[RUNS];
    const element *x; /* the input, or dy, with pixels ld elements apart, `width` in a row */
    int64_t ld, width;
    element *y; /* the output, or dx */
    int64_t ldy, widthy;
    uint8_t *winner;
    const uint8_t *index;
    int tap_row, tap_column; /* from a tap to the one below, and to the right */
    int streams;
} job;

/* A row that is written, and the rows that its taps lead to. */
typedef struct {
    int64_t to, from, taps; /* pixels before it, and before the first of those; their number */
    int tap;
    int more, rest; /* rows of taps were folded before these, or will be after them */
    float share;    /* of a row of taps in an average */
} row;

/* -------------------------------------------------------------------------- what is folded, how */

enum fold { MAX, MAX_INDEX, MAX_GRAD, AVG };

#define INLINE __attribute__((always_inline)) static inline

/* The first of equal maxima wins, and every NaN. */
INLINE vec_mask wins(vec v, vec best) { return vec_either(vec_lt(best, v), vec_nan(v)); }

/* A pixel: what its first tap leads to, and where the result goes. */
typedef struct {
    const element *x;
    const uint8_t *index;
    element *y;
    uint8_t *winner;
    int tap;
    float share;
    /* so many pixels lie behind it in its row, and behind those, that a vector may be full of them:
     * they are written once more later */
    int room;
} place;

/* Folds ny x nx taps of n channels from c on, n <= LANES. */
INLINE void fold_taps(enum fold fold, const job *j, const row *at, int64_t nx, const place *p,
                      int64_t c, int64_t n) {
    const int64_t ld = j->ld, down = j->width, channels = j->s->c;
    const element *x = p->x + c;
    vec acc = vec_set(fold == MAX || fold == MAX_INDEX ? -INFINITY : 0), last = acc;
    vec_mask lost = vec_lt(acc, acc); /* none yet */
    int tap = p->tap;
    vec_int first = int_set(tap);
    if (fold != MAX_GRAD && at->more) {
        acc = load_upto(p->y + c, n);
        if (fold == MAX_INDEX) first = int_load_bytes(p->winner + c, n);
    }
    for (int64_t ky = 0; ky < at->taps; ky++, x += down * ld, tap += j->tap_row) {
        for (int64_t kx = 0; kx < nx; kx++) {
            const vec v = load_upto(x + kx * ld, n);
            const vec_int here = int_set(tap + (int)kx * j->tap_column);
            if (fold == MAX) { /* which drops NaN; two are looked for at once */
                acc = vec_max(v, acc);
                if (kx % 2 || kx + 1 == nx)
                    lost = vec_either(lost, vec_unordered(v, kx % 2 ? last : v));
                last = v;
            }
            if (fold == AVG) acc = acc + v;
            if (fold == MAX_INDEX) {
                vec_mask won = wins(v, acc);
                first = int_pick(won, here, first);
                acc = vec_pick(won, v, acc);
            }
            if (fold == MAX_GRAD) {
                vec_int its = int_load_bytes(p->index + (ky * down + kx) * channels + c, n);
                acc = acc + vec_keep(int_eq(its, here), v);
            }
        }
    }
    if (fold == MAX) acc = vec_pick(lost, vec_set(NAN), acc);
    if (fold == AVG && !at->rest) acc = acc * vec_set(p->share);
    if (j->streams)
        stream(p->y + c, acc);
    else
        store_upto(p->y + c, acc, n);
    if (fold == MAX_INDEX) int_store_bytes(p->winner + c, first, n);
}

INLINE void fold_pixel(enum fold fold, const job *j, const row *at, int64_t nx, const place *p) {
    const int64_t channels = j->s->c;
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) fold_taps(fold, j, at, nx, p, c, LANES);
    if (c < channels && p->room) fold_taps(fold, j, at, nx, p, c, LANES);
    if (c < channels && !p->room) fold_taps(fold, j, at, nx, p, c, channels - c);
}

/* With few taps in a row their loop unrolls. */
INLINE void fold_place(enum fold fold, const job *j, const row *at, int64_t nx, const place *p) {
    if (nx == 1)
        fold_pixel(fold, j, at, 1, p);
    else if (nx == 2)
        fold_pixel(fold, j, at, 2, p);
    else if (nx == 3)
        fold_pixel(fold, j, at, 3, p);
    else
        fold_pixel(fold, j, at, nx, p);
}

/* A row's pixels, in their order. */
INLINE void fold_row(enum fold fold, const job *j, const row at) {
    const int64_t channels = j->s->c, behind = (LANES + channels - 1) / channels;
    const int overlaps = j->ldy == channels;
    for (const run *r = j->run; r < j->run + j->runs; r++) {
        int64_t moved = 0, to = r->first;
        for (int64_t i = 0, k = 0; i < r->count * r->pixels; i++, to++) {
            const link *l = &r->link[k++];
            const int64_t from = l->from + moved, out = at.to + to, in = at.from + from;
            if (k == r->pixels) k = 0, moved += r->advance;
            place p = {.x = j->x + in * j->ld,
                       .y = j->y + out * j->ldy,
                       .tap = at.tap + l->tap,
                       .share = at.share * l->share,
                       .room = overlaps && to + behind < j->widthy &&
                               from + l->taps + behind <= j->width};
            if (fold == MAX_GRAD) p.index = j->index + in * channels;
            if (fold == MAX_INDEX) p.winner = j->winner + out * channels;
            fold_place(fold, j, &at, l->taps, &p);
        }
    }
}

/* ----------------------------------------------------------------------------------------- runs */

static int same_cell(const run *r, const link *next, int64_t pixels) {
    int64_t advance = r->count == 1 ? next->from - r->link->from : r->advance;
    int same = r->pixels == pixels;
    for (int64_t i = 0; i < pixels && same; i++)
        same = r->link[i].taps == next[i].taps && r->link[i].tap == next[i].tap &&
               next[i].from == r->link[i].from + r->count * advance;
    return same;
}

/* A cell more, of `pixels` pixels from `first` on; 0 when there are too many runs. */
static int add_cell(job *j, int64_t first, int64_t pixels, const link *next) {
    run *r = j->runs ? &j->run[j->runs - 1] : NULL;
    if (r && same_cell(r, next, pixels)) {
        if (r->count++ == 1) r->advance = next->from - r->link->from;
        return 1;
    }
    if (j->runs == RUNS) return 0;
    r = &j->run[j->runs++];
    *r = (run){.first = first, .pixels = pixels, .count = 1};
    for (int64_t i = 0; i < pixels; i++) r->link[i] = next[i];
    return 1;
}

static int find_forward_runs(job *j) {
    const k_axis *a = &j->ax;
    for (int64_t o = 0; o < a->out; o++) {
        int64_t begin = k_window_begin(a, o), taps = k_window_end(a, o) - begin;
        link l = {.from = begin, .taps = taps, .share = 1 / (float)(a->k ? a->k : taps)};
        if (a->k) l.tap = (int)(begin - (o * a->s - a->p));
        if (!add_cell(j, o, 1, &l)) return 0;
    }
    return 1;
}

/* Pixels that lie a stride apart see the same taps. */
static int find_backward_runs(job *j) {
    const k_axis *a = &j->ax;
    const int64_t step = a->k ? a->s : 1;
    k_span from = {0, 0};
    if (step > STEP) return 0;
    for (int64_t i = 0; i < a->in; i += step) {
        int64_t pixels = k_min(step, a->in - i);
        link cell[STEP];
        for (int64_t k = 0; k < pixels; k++) {
            k_cover(a, i + k, &from);
            cell[k] = (link){.from = from.begin,
                             .taps = from.end - from.begin,
                             .share = 1 / (float)(a->k ? a->k : a->in / a->out)};
            if (a->k) cell[k].tap = (int)(i + k + a->p - from.begin * a->s);
        }
        if (!add_cell(j, i, pixels, cell)) return 0;
    }
    return 1;
}

/* Rows [begin, end) of the n * oh output rows. What lies in memory is read in its order, a row of
 * taps after the other: the result so far waits in y, that is, in the nearest cache. In a cache all
 * taps are taken at once, and where a sum so far would be rounded. */
INLINE void forward(enum fold fold, const job *j, int64_t begin, int64_t end) {
    const k_pool *s = j->s;
    const int rounds = fold == AVG && sizeof(element) < sizeof(float);
    const int at_once =
        rounds || s->n * s->h * s->w * s->ldx * (int64_t)sizeof(element) < K_STREAM_BYTES;
    for (int64_t i = begin; i < end; i++) {
        int64_t oy = i % s->oh, iy = k_window_begin(&j->ay, oy),
                taps = k_window_end(&j->ay, oy) - iy;
        row at = {.to = i * s->ow,
                  .from = (i / s->oh * s->h + iy) * s->w,
                  .taps = taps,
                  .tap = s->kh ? (int)((iy - oy * s->sh + s->ph) * s->kw) : 0,
                  .share = 1 / (float)(s->kh ? s->kh : taps)};
        if (at_once) {
            fold_row(fold, j, at);
            continue;
        }
        for (at.taps = 1; at.more < taps; at.more++, at.from += s->w, at.tap += j->tap_row) {
            at.rest = at.more + 1 < taps;
            fold_row(fold, j, at);
        }
    }
}

/* Rows [begin, end) of the n * h input rows. */
INLINE void backward(enum fold fold, const job *j, int64_t begin, int64_t end) {
    const k_pool *s = j->s;
    for (int64_t i = begin; i < end; i++) {
        k_span y = {0, 0};
        k_cover(&j->ay, i % s->h, &y);
        fold_row(fold, j,
                 (row){.to = i * s->w,
                       .from = (i / s->h * s->oh + y.begin) * s->ow,
                       .taps = y.end - y.begin,
                       .tap = s->kh ? (int)((i % s->h - y.begin * s->sh + s->ph) * s->kw) : 0,
                       .share = 1 / (float)(s->kh ? s->kh : s->h / s->oh)});
    }
    if (j->streams) vec_stream_end();
}

static void max_rows(void *ctx, int64_t begin, int64_t end) { forward(MAX, ctx, begin, end); }
static void max_index_rows(void *ctx, int64_t begin, int64_t end) {
    forward(MAX_INDEX, ctx, begin, end);
}
static void avg_rows(void *ctx, int64_t begin, int64_t end) { forward(AVG, ctx, begin, end); }
static void max_grad_rows(void *ctx, int64_t begin, int64_t end) {
    backward(MAX_GRAD, ctx, begin, end);
}
static void avg_grad_rows(void *ctx, int64_t begin, int64_t end) { backward(AVG, ctx, begin, end); }

/* ------------------------------------------------------------------------------------ launchers */

static k_table plain; /* of these, for windows that make too many runs */

static int64_t rows_at_once(int64_t row_size) { return k_max(1, GRAIN / k_max(row_size, 1)); }

/* Whole lines of memory are written, and so many that none would stay in a cache. */
static int may_stream(const job *j, int64_t pixels) {
    int64_t bytes = j->s->c * (int64_t)sizeof *j->y;
    return pixels * bytes >= K_STREAM_BYTES && bytes % LINE == 0 && j->s->c == j->ldy &&
           (uintptr_t)j->y % LINE == 0;
}

static job forward_of(const k_pool *s, const float *x, float *y, uint8_t *index) {
    job j = {.s = s,
             .ay = K_AXIS_Y(s),
             .ax = K_AXIS_X(s),
             .x = elements_of(x),
             .ld = s->ldx,
             .width = s->w,
             .y = elements(y),
             .ldy = s->ldy,
             .widthy = s->ow,
             .winner = index,
             .tap_row = (int)s->kw,
             .tap_column = 1};
    return j;
}

static job backward_of(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = {.s = s,
             .ay = K_AXIS_Y(s),
             .ax = K_AXIS_X(s),
             .x = elements_of(dy),
             .ld = s->ldy,
             .width = s->ow,
             .y = elements(dx),
             .ldy = s->ldx,
             .widthy = s->w,
             .index = index,
             .tap_row = -(int)(s->sh * s->kw),
             .tap_column = -(int)s->sw};
    j.streams = may_stream(&j, s->n * s->h * s->w);
    return j;
}

/* Output rows, as long as the input that they read. */
static void run_forward(job *j, k_task *fn) {
    const k_pool *s = j->s;
    int64_t read = k_max(s->h / k_max(s->oh, 1), 1) * s->w * s->c;
    k_parallel(s->n * s->oh, rows_at_once(read), fn, j);
}

static void run_backward(job *j, k_task *fn) {
    const k_pool *s = j->s;
    k_parallel(s->n * s->h, rows_at_once(s->w * s->c), fn, j);
}

static void max_pool(const k_pool *s, const float *x, float *y, uint8_t *index) {
    job j = forward_of(s, x, y, index);
    if (find_forward_runs(&j))
        run_forward(&j, index ? max_index_rows : max_rows);
    else
        plain.max_pool(s, x, y, index);
}

static void max_pool_grad(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = backward_of(s, dy, index, dx);
    if (find_backward_runs(&j))
        run_backward(&j, max_grad_rows);
    else
        plain.max_pool_grad(s, dy, index, dx);
}

static void avg_pool(const k_pool *s, const float *x, float *y) {
    job j = forward_of(s, x, y, NULL);
    if (find_forward_runs(&j))
        run_forward(&j, avg_rows);
    else
        plain.avg_pool(s, x, y);
}

/* Windows of an adaptive pooling that overlap weigh their taps differently. */
static void avg_pool_grad(const k_pool *s, const float *dy, float *dx) {
    job j = backward_of(s, dy, NULL, dx);
    int even = s->kh || (s->h % s->oh == 0 && s->w % s->ow == 0);
    if (even && find_backward_runs(&j))
        run_backward(&j, avg_grad_rows);
    else
        plain.avg_pool_grad(s, dy, dx);
}

static void pool_simd(k_table *t) {
    plain = *t;
    t->max_pool = max_pool;
    t->max_pool_grad = max_pool_grad;
    t->avg_pool = avg_pool;
    t->avg_pool_grad = avg_pool_grad;
}

#else
static void pool_simd(k_table *t) { (void)t; }
#endif
