/* pool_simd.h - max and average pooling of channels-last pictures, for AVX2 and AVX-512 alike.
 *
 * A vector holds neighbouring channels of one pixel. Forward walks the output pixels, the gradients
 * the input pixels: both collect, for a pixel, the links to the pixels of the other side that it
 * has to do with, and fold what lies there. So every result is written once and no two threads
 * write the same. Memory-bound: x and y are moved once, plus a byte an output for the index of a
 * maximum.
 *
 * Surprising: gathering adds in the order in which the plain loops scatter, so the bits agree. */
#include "kernels.h"
#include "pool_window.h"
#include "simd.h"

#if K_SIMD

#include <math.h>

enum {
    GRAIN = 1 << 15, /* elements a thread takes at once */
    LINKS = 256,     /* at once: the windows of max pooling are no larger */
    WIDE = 4         /* vectors folded side by side */
};

typedef struct {
    const k_pool *s;
    k_axis ay, ax;
    const float *x; /* the input, or dy, whose rows are ld floats apart */
    int64_t ld;
    float *y; /* the output, or dx, with rows of ldy */
    int64_t ldy;
    uint8_t *winner;
    const uint8_t *index;
    float share; /* of a tap, unless adaptive */
} job;

/* A pixel of the other side, the tap that leads there, and the weight of an average. */
typedef struct {
    int64_t pixel;
    int tap;
    float share;
} link;

/* The links of the pixel worked on, at most LINKS of them, those of a piece of its rows. */
typedef struct {
    int64_t count;
    link at[LINKS];
} link_list;

/* -------------------------------------------------------------------------- what is folded, how */

enum fold { MAX, MAX_INDEX, MAX_GRAD, AVG };

/* Folds the links of one pixel, `offset` pixels further on, over vecs * LANES channels, of which
 * the first n are real where vecs is 1. `more`: goes on from what y holds. */
__attribute__((always_inline)) static inline void fold_links(enum fold fold, int vecs, const job *j,
                                                             const link_list *list, int64_t offset,
                                                             int64_t c, int64_t pixel, int64_t n,
                                                             int more) {
    const float *x = j->x + offset * j->ld + c;
    const uint8_t *index = fold == MAX_GRAD ? j->index + c : NULL;
    float *y = j->y + pixel * j->ldy + c;
    const int64_t channels = j->s->c, bytes = vecs == 1 ? k_min(n, LANES) : LANES;
    vec acc[WIDE];
    vec_int winner[WIDE];
    for (int k = 0; k < vecs; k++) {
        acc[k] = vec_set(fold == MAX || fold == MAX_INDEX ? -INFINITY : 0);
        if (more) acc[k] = vecs == 1 ? vec_load_upto(y, n) : vec_load(y + k * LANES);
        winner[k] = int_set(list->at->tap);
    }
    for (const link *l = list->at; l < list->at + list->count; l++) {
        const float *from = x + l->pixel * j->ld;
        const vec_int tap = int_set(l->tap);
        for (int k = 0; k < vecs; k++) {
            vec v = vecs == 1 ? vec_load_upto(from, n) : vec_load(from + k * LANES);
            if (fold == MAX) acc[k] = vec_pick(vec_nan(v), v, vec_max(v, acc[k]));
            if (fold == AVG) acc[k] = vec_fma(v, vec_set(l->share), acc[k]);
            if (fold == MAX_INDEX) {
                vec_mask wins = vec_either(vec_lt(acc[k], v), vec_nan(v));
                acc[k] = vec_pick(wins, v, acc[k]);
                winner[k] = int_pick(wins, tap, winner[k]);
            }
            if (fold == MAX_GRAD) {
                vec_int its = int_load_bytes(index + l->pixel * channels + k * LANES, bytes);
                acc[k] = acc[k] + vec_keep(int_eq(its, tap), v);
            }
        }
    }
    for (int k = 0; k < vecs; k++) {
        if (vecs == 1)
            vec_store_upto(y, acc[k], n);
        else
            vec_store(y + k * LANES, acc[k]);
        if (fold == MAX_INDEX)
            int_store_bytes(j->winner + pixel * channels + c + k * LANES, winner[k], bytes);
    }
}

typedef void fold_function(const job *j, const link_list *list, int64_t offset, int64_t pixel,
                           int more);

#define FOLD(name, fold)                                                                           \
    static void name##_pixel(const job *j, const link_list *list, int64_t offset, int64_t pixel,   \
                             int more) {                                                           \
        int64_t c = 0, channels = j->s->c;                                                         \
        for (; c + WIDE * LANES <= channels; c += WIDE * LANES)                                    \
            fold_links(fold, WIDE, j, list, offset, c, pixel, 0, more);                            \
        for (; c < channels; c += LANES)                                                           \
            fold_links(fold, 1, j, list, offset, c, pixel, channels - c, more);                    \
    }

FOLD(max, MAX)
FOLD(max_index, MAX_INDEX)
FOLD(max_grad, MAX_GRAD)
FOLD(avg, AVG)

/* ---------------------------------------------------------------------------------------- links */

static float area(const k_axis *ay, const k_axis *ax, int64_t oy, int64_t ox) {
    if (ay->k) return ay->k * ax->k;
    return (k_window_end(ay, oy) - k_window_begin(ay, oy)) *
           (k_window_end(ax, ox) - k_window_begin(ax, ox));
}

/* Output pixel (oy, ox) of picture n: its input pixels y.begin .. x.end. */
static void forward_pixel(const job *j, fold_function *fn, link_list *list, int64_t n, int64_t oy,
                          int64_t ox, k_span y, k_span x) {
    const k_pool *s = j->s;
    const float share = 1 / area(&j->ay, &j->ax, oy, ox);
    int more = 0;
    list->count = 0;
    for (int64_t iy = y.begin; iy < y.end; iy++) {
        int64_t row = (n * s->h + iy) * s->w;
        int tap = (iy - oy * s->sh + s->ph) * s->kw - ox * s->sw + s->pw;
        for (int64_t ix = x.begin; ix < x.end; ix++) {
            list->at[list->count++] = (link){row + ix, tap + ix, share};
            if (list->count < LINKS) continue;
            fn(j, list, 0, (n * s->oh + oy) * s->ow + ox, more);
            list->count = 0;
            more = 1;
        }
    }
    if (list->count || !more) fn(j, list, 0, (n * s->oh + oy) * s->ow + ox, more);
}

/* Input pixel (iy, ix) of picture n: the output pixels y.begin .. x.end that reach it. */
static void backward_pixel(const job *j, fold_function *fn, link_list *list, int64_t n, int64_t iy,
                           int64_t ix, k_span y, k_span x) {
    const k_pool *s = j->s;
    int more = 0;
    list->count = 0;
    for (int64_t oy = y.begin; oy < y.end; oy++) {
        int64_t row = (n * s->oh + oy) * s->ow;
        int tap = (iy - oy * s->sh + s->ph) * s->kw + ix + s->pw;
        for (int64_t ox = x.begin; ox < x.end; ox++) {
            float share = s->kh ? j->share : 1 / area(&j->ay, &j->ax, oy, ox);
            list->at[list->count++] = (link){row + ox, tap - ox * s->sw, share};
            if (list->count < LINKS) continue;
            fn(j, list, 0, (n * s->h + iy) * s->w + ix, more);
            list->count = 0;
            more = 1;
        }
    }
    if (list->count || !more) fn(j, list, 0, (n * s->h + iy) * s->w + ix, more);
}

/* Rows [begin, end) of the n * oh output rows. Neighbours with whole windows have the same links,
 * `sw` further on. */
static void forward(const job *j, fold_function *fn, int64_t begin, int64_t end) {
    const k_pool *s = j->s;
    const int64_t whole = s->kh * s->kw < LINKS ? s->kw : -1;
    link_list list;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->oh, oy = row % s->oh, built = -1;
        k_span y = {k_window_begin(&j->ay, oy), k_window_end(&j->ay, oy)};
        for (int64_t ox = 0; ox < s->ow; ox++) {
            k_span x = {k_window_begin(&j->ax, ox), k_window_end(&j->ax, ox)};
            if (built >= 0 && x.end - x.begin == whole) {
                fn(j, &list, x.begin - built, row * s->ow + ox, 0);
                continue;
            }
            forward_pixel(j, fn, &list, n, oy, ox, y, x);
            built = x.end - x.begin == whole ? x.begin : -1;
        }
    }
}

/* Rows [begin, end) of the n * h input rows. */
static void backward(const job *j, fold_function *fn, int64_t begin, int64_t end) {
    const k_pool *s = j->s;
    link_list list;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->h, iy = row % s->h;
        k_span x = {0, 0}, y = {0, 0};
        k_cover(&j->ay, iy, &y);
        for (int64_t ix = 0; ix < s->w; ix++) {
            k_cover(&j->ax, ix, &x);
            backward_pixel(j, fn, &list, n, iy, ix, y, x);
        }
    }
}

static void max_rows(void *ctx, int64_t begin, int64_t end) { forward(ctx, max_pixel, begin, end); }
static void max_index_rows(void *ctx, int64_t begin, int64_t end) {
    forward(ctx, max_index_pixel, begin, end);
}
static void avg_rows(void *ctx, int64_t begin, int64_t end) { forward(ctx, avg_pixel, begin, end); }
static void max_grad_rows(void *ctx, int64_t begin, int64_t end) {
    backward(ctx, max_grad_pixel, begin, end);
}
static void avg_grad_rows(void *ctx, int64_t begin, int64_t end) {
    backward(ctx, avg_pixel, begin, end);
}

/* ------------------------------------------------------------------------------------ launchers */

static int64_t rows_at_once(int64_t row_size) { return k_max(1, GRAIN / k_max(row_size, 1)); }

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
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, s->ldx, y, s->ldy, index, NULL, 0};
    run_forward(&j, index ? max_index_rows : max_rows);
}

static void max_pool_grad(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), dy, s->ldy, dx, s->ldx, NULL, index, 0};
    run_backward(&j, max_grad_rows);
}

static void avg_pool(const k_pool *s, const float *x, float *y) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, s->ldx, y, s->ldy, NULL, NULL, 0};
    run_forward(&j, avg_rows);
}

static void avg_pool_grad(const k_pool *s, const float *dy, float *dx) {
    job j = {s,  K_AXIS_Y(s), K_AXIS_X(s), dy,   s->ldy,
             dx, s->ldx,      NULL,        NULL, 1 / (float)(s->kh * s->kw)};
    run_backward(&j, avg_grad_rows);
}

static void pool_simd(k_table *t) {
    t->max_pool = max_pool;
    t->max_pool_grad = max_pool_grad;
    t->avg_pool = avg_pool;
    t->avg_pool_grad = avg_pool_grad;
}

#else
static void pool_simd(k_table *t) { (void)t; }
#endif
