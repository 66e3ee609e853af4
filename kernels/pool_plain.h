/* pool_plain.h - max and average pooling of channels-last pictures, in plain loops.
 *
 * Contract: kernels.h. Every window holds a real pixel; padding never wins a maximum, and counts as
 * zeros in an average. A gradient gathers, for each input pixel, from the windows that it lies in,
 * in their order, and is rounded once.
 *
 * Surprising: as in PyTorch the first of equal maxima wins, but the last of several NaN. */
#include "element.h"
#include "kernels.h"
#include "pool_window.h"

#include <math.h>

typedef struct {
    const k_pool *s;
    k_axis ay, ax;
    const element *x; /* the input, or dy */
    element *y;       /* the output, or dx */
    uint8_t *winner;
    const uint8_t *index;
} job;

/* The area that an average divides by. */
static int64_t window_area(const job *j, int64_t oy, int64_t ox) {
    if (j->s->kh) return j->s->kh * j->s->kw;
    return (k_window_end(&j->ay, oy) - k_window_begin(&j->ay, oy)) *
           (k_window_end(&j->ax, ox) - k_window_begin(&j->ax, ox));
}

/* The real pixels (iy, ix) of window (oy, ox), row by row. */
#define FOR_WINDOW(j, oy, ox, iy, ix)                                                              \
    for (int64_t iy = k_window_begin(&(j)->ay, oy); iy < k_window_end(&(j)->ay, oy); iy++)         \
        for (int64_t ix = k_window_begin(&(j)->ax, ox); ix < k_window_end(&(j)->ax, ox); ix++)

/* Rows [begin, end) of the n * oh output rows. */
static void max_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->oh, oy = row % s->oh;
        for (int64_t ox = 0; ox < s->ow; ox++) {
            for (int64_t c = 0; c < s->c; c++) {
                float best = -INFINITY;
                int64_t tap = -1;
                FOR_WINDOW(j, oy, ox, iy, ix) {
                    float v = from_element(j->x[((n * s->h + iy) * s->w + ix) * s->ldx + c]);
                    if (v > best || isnan(v) || tap < 0) {
                        best = v;
                        tap = (iy - oy * s->sh + s->ph) * s->kw + ix - ox * s->sw + s->pw;
                    }
                }
                int64_t pixel = row * s->ow + ox;
                j->y[pixel * s->ldy + c] = to_element(best);
                if (j->winner) j->winner[pixel * s->c + c] = tap;
            }
        }
    }
}

static void avg_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->oh, oy = row % s->oh;
        for (int64_t ox = 0; ox < s->ow; ox++) {
            for (int64_t c = 0; c < s->c; c++) {
                double sum = 0;
                FOR_WINDOW(j, oy, ox, iy, ix)
                sum += from_element(j->x[((n * s->h + iy) * s->w + ix) * s->ldx + c]);
                float mean = sum / window_area(j, oy, ox);
                j->y[(row * s->ow + ox) * s->ldy + c] = to_element(mean);
            }
        }
    }
}

/* The windows (oy, ox) that pixels y, x of spans reach. */
#define FOR_WINDOWS(y, x, oy, ox)                                                                  \
    for (int64_t oy = (y).begin; oy < (y).end; oy++)                                               \
        for (int64_t ox = (x).begin; ox < (x).end; ox++)

/* Rows [begin, end) of the n * h input rows. */
static void max_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->h, iy = row % s->h;
        k_span y = {0, 0}, x = {0, 0};
        k_cover(&j->ay, iy, &y);
        for (int64_t ix = 0; ix < s->w; ix++) {
            k_cover(&j->ax, ix, &x);
            for (int64_t c = 0; c < s->c; c++) {
                float sum = 0;
                FOR_WINDOWS(y, x, oy, ox) {
                    int64_t pixel = (n * s->oh + oy) * s->ow + ox;
                    int64_t tap = (iy - oy * s->sh + s->ph) * s->kw + ix - ox * s->sw + s->pw;
                    if (j->index[pixel * s->c + c] == tap)
                        sum += from_element(j->x[pixel * s->ldy + c]);
                }
                j->y[(row * s->w + ix) * s->ldx + c] = to_element(sum);
            }
        }
    }
}

static void avg_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->h, iy = row % s->h;
        k_span y = {0, 0}, x = {0, 0};
        k_cover(&j->ay, iy, &y);
        for (int64_t ix = 0; ix < s->w; ix++) {
            k_cover(&j->ax, ix, &x);
            for (int64_t c = 0; c < s->c; c++) {
                float sum = 0;
                FOR_WINDOWS(y, x, oy, ox)
                sum += from_element(j->x[((n * s->oh + oy) * s->ow + ox) * s->ldy + c]) /
                       window_area(j, oy, ox);
                j->y[(row * s->w + ix) * s->ldx + c] = to_element(sum);
            }
        }
    }
}

static void max_pool(const k_pool *s, const float *x, float *y, uint8_t *index) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), elements_of(x), elements(y), index, NULL};
    k_parallel(s->n * s->oh, 1, max_rows, &j);
}

static void max_pool_grad(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), elements_of(dy), elements(dx), NULL, index};
    k_parallel(s->n * s->h, 1, max_grad_rows, &j);
}

static void avg_pool(const k_pool *s, const float *x, float *y) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), elements_of(x), elements(y), NULL, NULL};
    k_parallel(s->n * s->oh, 1, avg_rows, &j);
}

static void avg_pool_grad(const k_pool *s, const float *dy, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), elements_of(dy), elements(dx), NULL, NULL};
    k_parallel(s->n * s->h, 1, avg_grad_rows, &j);
}

static void pool_plain(k_table *t) {
    t->max_pool = max_pool;
    t->max_pool_grad = max_pool_grad;
    t->avg_pool = avg_pool;
    t->avg_pool_grad = avg_pool_grad;
}
