/* pool_simd.h - max and average pooling of channels-last pictures, for AVX2 and AVX-512 alike.
 *
 * A vector holds neighbouring channels of one pixel. Forward walks the outputs; the gradients walk
 * the inputs and gather from the windows that reach them, so that every dx is written once and no
 * two threads write the same. Memory-bound: x and y are moved once, plus a byte an output for the
 * index of a maximum.
 *
 * Surprising: gathering adds in the order in which the plain loops scatter, so the bits agree. */
#include "kernels.h"
#include "pool_window.h"
#include "simd.h"

#if K_SIMD

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements of the larger side a thread takes at once */

typedef struct {
    const k_pool *s;
    k_axis ay, ax;
    const float *x; /* the input, or dy */
    float *y;       /* the output, or dx */
    uint8_t *winner;
    const uint8_t *index;
} job;

static float window_area(const job *j, int64_t oy, int64_t ox) {
    if (j->s->kh) return j->s->kh * j->s->kw;
    return (k_window_end(&j->ay, oy) - k_window_begin(&j->ay, oy)) *
           (k_window_end(&j->ax, ox) - k_window_begin(&j->ax, ox));
}

/* The rectangle of pixels that an output or input pixel has to do with. */
typedef struct {
    int64_t y, y_end, x, x_end;
} box;

/* n channels of one output pixel; `x` and `tap` are the picture and the tap at pixel (0, 0). */
static inline void max_pixel(const k_pool *s, const box *b, const float *x, int64_t tap, float *y,
                             uint8_t *winner, int64_t n) {
    vec best = vec_set(-INFINITY);
    vec_int index = int_set(tap + b->y * s->kw + b->x);
    for (int64_t iy = b->y; iy < b->y_end; iy++) {
        for (int64_t ix = b->x; ix < b->x_end; ix++) {
            vec v = vec_load_upto(x + (iy * s->w + ix) * s->ldx, n);
            vec_mask wins = vec_either(vec_lt(best, v), vec_nan(v));
            best = vec_pick(wins, v, best);
            index = int_pick(wins, int_set(tap + iy * s->kw + ix), index);
        }
    }
    vec_store_upto(y, best, n);
    if (winner) int_store_bytes(winner, index, k_min(n, LANES));
}

static void max_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t oy = row % s->oh;
        const float *x = j->x + row / s->oh * s->h * s->w * s->ldx;
        box b = {.y = k_window_begin(&j->ay, oy), .y_end = k_window_end(&j->ay, oy)};
        for (int64_t ox = 0; ox < s->ow; ox++) {
            int64_t pixel = row * s->ow + ox;
            int64_t tap = (s->ph - oy * s->sh) * s->kw + s->pw - ox * s->sw;
            b.x = k_window_begin(&j->ax, ox);
            b.x_end = k_window_end(&j->ax, ox);
            for (int64_t c = 0; c < s->c; c += LANES)
                max_pixel(s, &b, x + c, tap, j->y + pixel * s->ldy + c,
                          j->winner ? j->winner + pixel * s->c + c : NULL, s->c - c);
        }
    }
}

static void avg_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t oy = row % s->oh;
        const float *x = j->x + row / s->oh * s->h * s->w * s->ldx;
        for (int64_t ox = 0; ox < s->ow; ox++) {
            const int64_t x0 = k_window_begin(&j->ax, ox), x1 = k_window_end(&j->ax, ox);
            const vec share = vec_set(1 / window_area(j, oy, ox));
            for (int64_t c = 0; c < s->c; c += LANES) {
                vec sum = vec_set(0);
                for (int64_t iy = k_window_begin(&j->ay, oy); iy < k_window_end(&j->ay, oy); iy++)
                    for (int64_t ix = x0; ix < x1; ix++)
                        sum = sum + vec_load_upto(x + (iy * s->w + ix) * s->ldx + c, s->c - c);
                vec_store_upto(j->y + (row * s->ow + ox) * s->ldy + c, sum * share, s->c - c);
            }
        }
    }
}

/* Rows [begin, end) of the n * h input rows; the windows that reach pixel (iy, ix) give to it. */
static void max_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t iy = row % s->h, n = row / s->h * s->oh;
        int64_t y0 = k_covering_begin(&j->ay, iy), y1 = k_covering_end(&j->ay, iy);
        for (int64_t ix = 0; ix < s->w; ix++) {
            int64_t x0 = k_covering_begin(&j->ax, ix), x1 = k_covering_end(&j->ax, ix);
            float *dx = j->y + (row * s->w + ix) * s->ldx;
            for (int64_t c = 0; c < s->c; c += LANES) {
                vec sum = vec_set(0);
                for (int64_t oy = y0; oy < y1; oy++) {
                    for (int64_t ox = x0; ox < x1; ox++) {
                        int64_t pixel = (n + oy) * s->ow + ox, left = s->c - c;
                        int64_t tap = (iy + s->ph - oy * s->sh) * s->kw + ix + s->pw - ox * s->sw;
                        vec_int index =
                            int_load_bytes(j->index + pixel * s->c + c, k_min(left, LANES));
                        vec dy = vec_load_upto(j->x + pixel * s->ldy + c, left);
                        sum = sum + vec_keep(int_eq(index, int_set(tap)), dy);
                    }
                }
                vec_store_upto(dx + c, sum, s->c - c);
            }
        }
    }
}

static void avg_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t iy = row % s->h, n = row / s->h * s->oh;
        int64_t y0 = k_covering_begin(&j->ay, iy), y1 = k_covering_end(&j->ay, iy);
        for (int64_t ix = 0; ix < s->w; ix++) {
            int64_t x0 = k_covering_begin(&j->ax, ix), x1 = k_covering_end(&j->ax, ix);
            float *dx = j->y + (row * s->w + ix) * s->ldx;
            for (int64_t c = 0; c < s->c; c += LANES) {
                vec sum = vec_set(0);
                for (int64_t oy = y0; oy < y1; oy++) {
                    for (int64_t ox = x0; ox < x1; ox++) {
                        const float *dy = j->x + ((n + oy) * s->ow + ox) * s->ldy + c;
                        sum = sum + vec_load_upto(dy, s->c - c) / vec_set(window_area(j, oy, ox));
                    }
                }
                vec_store_upto(dx + c, sum, s->c - c);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------- launchers
 */

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
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, y, index, NULL};
    run_forward(&j, max_rows);
}

static void max_pool_grad(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), dy, dx, NULL, index};
    run_backward(&j, max_grad_rows);
}

static void avg_pool(const k_pool *s, const float *x, float *y) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, y, NULL, NULL};
    run_forward(&j, avg_rows);
}

static void avg_pool_grad(const k_pool *s, const float *dy, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), dy, dx, NULL, NULL};
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
