/* pool_generic.c - max and average pooling of channels-last pictures.
 *
 * Contract: kernels.h. Every window holds a real pixel; padding never wins a maximum, and counts as
 * zeros in an average. The gradients overwrite dx.
 *
 * Surprising: as in PyTorch the first of equal maxima wins, but the last of several NaN. */
#include "kernels.h"
#include "pool_window.h"

#include <math.h>
#include <string.h>

typedef struct {
    const k_pool *s;
    k_axis ay, ax;
    const float *x; /* the input, or dy */
    float *y;       /* the output, or dx */
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
                    float v = j->x[((n * s->h + iy) * s->w + ix) * s->ldx + c];
                    if (v > best || isnan(v) || tap < 0) {
                        best = v;
                        tap = (iy - oy * s->sh + s->ph) * s->kw + ix - ox * s->sw + s->pw;
                    }
                }
                int64_t pixel = row * s->ow + ox;
                j->y[pixel * s->ldy + c] = best;
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
                sum += j->x[((n * s->h + iy) * s->w + ix) * s->ldx + c];
                j->y[(row * s->ow + ox) * s->ldy + c] = sum / window_area(j, oy, ox);
            }
        }
    }
}

static void zero_picture(const k_pool *s, float *dx) {
    for (int64_t i = 0; i < s->h * s->w; i++) memset(dx + i * s->ldx, 0, s->c * sizeof *dx);
}

/* Pictures [begin, end): zeros first, then every output hands its gradient to its winner. */
static void max_grad_pictures(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t n = begin; n < end; n++) {
        float *dx = j->y + n * s->h * s->w * s->ldx;
        zero_picture(s, dx);
        for (int64_t o = 0; o < s->oh * s->ow; o++) {
            int64_t pixel = n * s->oh * s->ow + o;
            for (int64_t c = 0; c < s->c; c++) {
                int64_t tap = j->index[pixel * s->c + c];
                int64_t iy = o / s->ow * s->sh - s->ph + tap / s->kw;
                int64_t ix = o % s->ow * s->sw - s->pw + tap % s->kw;
                dx[(iy * s->w + ix) * s->ldx + c] += j->x[pixel * s->ldy + c];
            }
        }
    }
}

static void avg_grad_pictures(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_pool *s = j->s;
    for (int64_t n = begin; n < end; n++) {
        float *dx = j->y + n * s->h * s->w * s->ldx;
        zero_picture(s, dx);
        for (int64_t o = 0; o < s->oh * s->ow; o++) {
            int64_t oy = o / s->ow, ox = o % s->ow, area = window_area(j, oy, ox);
            const float *dy = j->x + (n * s->oh * s->ow + o) * s->ldy;
            FOR_WINDOW(j, oy, ox, iy, ix) {
                for (int64_t c = 0; c < s->c; c++)
                    dx[(iy * s->w + ix) * s->ldx + c] += dy[c] / area;
            }
        }
    }
}

static void max_pool(const k_pool *s, const float *x, float *y, uint8_t *index) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, y, index, NULL};
    k_parallel(s->n * s->oh, 1, max_rows, &j);
}

static void max_pool_grad(const k_pool *s, const float *dy, const uint8_t *index, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), dy, dx, NULL, index};
    k_parallel(s->n, 1, max_grad_pictures, &j);
}

static void avg_pool(const k_pool *s, const float *x, float *y) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), x, y, NULL, NULL};
    k_parallel(s->n * s->oh, 1, avg_rows, &j);
}

static void avg_pool_grad(const k_pool *s, const float *dy, float *dx) {
    job j = {s, K_AXIS_Y(s), K_AXIS_X(s), dy, dx, NULL, NULL};
    k_parallel(s->n, 1, avg_grad_pictures, &j);
}

void k_pool_generic(k_table *t) {
    t->max_pool = max_pool;
    t->max_pool_grad = max_pool_grad;
    t->avg_pool = avg_pool;
    t->avg_pool_grad = avg_pool_grad;
}
