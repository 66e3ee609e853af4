/* loss_simd.h - softmax, its logarithm and cross entropy for AVX2 and AVX-512 alike.
 *
 * Formulas of loss_generic.c in floats, a row at a time: its maximum, the sum of its exponentials,
 * its results, so that it comes from memory once and from the caches twice more. The gradient of
 * cross entropy takes its rows as one run. 8 bytes an element (12 for the gradients with dy).
 * Measured on two Zen 5 cores with 1000 classes, of the copy bandwidth: cross entropy 0.66, its
 * gradient all of it, 10 to 13 times the plain loops; with ten classes 0.19 and 0.89: there the
 * sums over a row's lanes are the cost.
 *
 * Surprising: the lanes beyond a row's end hold -infinity, whose exponential is 0, so that no sum
 * has to leave them out; and the maximum need not mind a NaN, which the sum brings up anyway. */
#include "kernels.h"
#include "simd.h"

#if K_SIMD

#include "strided.h"

#include <math.h>

enum { GRAIN = 1 << 12 /* elements a thread takes at once */ };

typedef struct {
    int64_t rows, c;
    const float *x, *y, *dy;
    const int32_t *label;
    float *out;
} job;

static void run_rows(job *j, k_task *fn) {
    k_parallel(j->rows, k_max(1, GRAIN / k_max(j->c, 1)), fn, j);
}

/* ------------------------------------------------------------------------------------ one row */

#define FOR_VECTORS(i, c) for (int64_t i = 0; i < (c); i += LANES)

/* What is left of a row, n floats, and -infinity behind it. */
static inline vec load_row(const float *p, int64_t n) {
    return n >= LANES ? vec_load(p) : vec_load_or(p, n, vec_set(-INFINITY));
}

#if defined(__AVX512F__)
static inline float vec_sum(vec x) { return _mm512_reduce_add_ps(x); }
static inline float vec_greatest(vec x) { return _mm512_reduce_max_ps(x); }
#else
static inline float vec_sum(vec x) {
    __m128 y = _mm256_castps256_ps128(x) + _mm256_extractf128_ps(x, 1);
    y = _mm_hadd_ps(y, y);
    return _mm_cvtss_f32(_mm_hadd_ps(y, y));
}
static inline float vec_greatest(vec x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
#endif

static inline float row_max(int64_t c, const float *x) {
    vec max = vec_set(-INFINITY);
    FOR_VECTORS(i, c) { max = vec_max(max, load_row(x + i, c - i)); }
    return vec_greatest(max);
}

/* y = e^(x - max), unless it is NULL; returns the sum. */
static inline float row_exp(int64_t c, const float *x, float max, float *y) {
    vec sum = vec_set(0);
    FOR_VECTORS(i, c) {
        vec e = vec_exp(load_row(x + i, c - i) - vec_set(max));
        if (y) vec_store_upto(y + i, e, c - i);
        sum = sum + e;
    }
    return vec_sum(sum);
}

/* ------------------------------------------------------------------------------------ the rows */

static void softmax_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        float *y = j->out + r * j->c;
        const float *x = j->x + r * j->c;
        const vec share = vec_set(1 / row_exp(j->c, x, row_max(j->c, x), y));
        FOR_VECTORS(i, j->c) {
            vec_store_upto(y + i, vec_load_upto(y + i, j->c - i) * share, j->c - i);
        }
    }
}

static void log_softmax_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->c;
        float *y = j->out + r * j->c, max = row_max(j->c, x);
        const vec top = vec_set(max), rest = vec_set(logf(row_exp(j->c, x, max, NULL)));
        FOR_VECTORS(i, j->c) {
            vec_store_upto(y + i, vec_load_upto(x + i, j->c - i) - top - rest, j->c - i);
        }
    }
}

/* dx = y (dy - sum(dy y)) */
static void softmax_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *y = j->y + r * j->c, *dy = j->dy + r * j->c;
        float *dx = j->out + r * j->c;
        vec dot = vec_set(0);
        FOR_VECTORS(i, j->c) {
            dot = vec_fma(vec_load_upto(dy + i, j->c - i), vec_load_upto(y + i, j->c - i), dot);
        }
        dot = vec_set(vec_sum(dot));
        FOR_VECTORS(i, j->c) {
            vec g = vec_load_upto(dy + i, j->c - i) - dot;
            vec_store_upto(dx + i, vec_load_upto(y + i, j->c - i) * g, j->c - i);
        }
    }
}

/* dx = dy - e^y sum(dy) */
static void log_softmax_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *y = j->y + r * j->c, *dy = j->dy + r * j->c;
        float *dx = j->out + r * j->c;
        vec sum = vec_set(0);
        FOR_VECTORS(i, j->c) { sum = sum + vec_load_upto(dy + i, j->c - i); }
        sum = vec_set(vec_sum(sum));
        FOR_VECTORS(i, j->c) {
            vec e = vec_exp(vec_load_upto(y + i, j->c - i));
            vec_store_upto(dx + i, vec_load_upto(dy + i, j->c - i) - e * sum, j->c - i);
        }
    }
}

/* dx = (e^logp - onehot) dloss / rows; `dy` is dloss, one number. */
static void cross_entropy_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const float scale = j->dy[0] / (float)j->rows;
    const float *logp = j->y + begin * j->c;
    float *dx = j->out + begin * j->c;
    int64_t n = (end - begin) * j->c;
    FOR_VECTORS(i, n) {
        vec_store_upto(dx + i, vec_exp(vec_load_upto(logp + i, n - i)) * vec_set(scale), n - i);
    }
    for (int64_t r = begin; r < end; r++) j->out[r * j->c + j->label[r]] -= scale;
}

/* ----------------------------------------------------------------------------------- the slots */

static void softmax(int64_t rows, int64_t c, const float *x, float *y) {
    job j = {.rows = rows, .c = c, .x = x, .out = y};
    run_rows(&j, softmax_rows);
}

static void log_softmax(int64_t rows, int64_t c, const float *x, float *y) {
    job j = {.rows = rows, .c = c, .x = x, .out = y};
    run_rows(&j, log_softmax_rows);
}

static void softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    job j = {.rows = rows, .c = c, .y = y, .dy = dy, .out = dx};
    run_rows(&j, softmax_grad_rows);
}

static void log_softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    job j = {.rows = rows, .c = c, .y = y, .dy = dy, .out = dx};
    run_rows(&j, log_softmax_grad_rows);
}

static void cross_entropy(int64_t rows, int64_t c, const float *x, const int32_t *label,
                          float *logp, float *loss) {
    log_softmax(rows, c, x, logp);
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) sum -= logp[r * c + label[r]];
    *loss = sum / rows;
}

static void cross_entropy_grad(int64_t rows, int64_t c, const float *logp, const int32_t *label,
                               const float *dloss, float *dx) {
    job j = {.rows = rows, .c = c, .y = logp, .dy = dloss, .label = label, .out = dx};
    run_rows(&j, cross_entropy_grad_rows);
}

static void loss_simd(k_table *t) {
    t->softmax = softmax;
    t->log_softmax = log_softmax;
    t->softmax_grad = softmax_grad;
    t->log_softmax_grad = log_softmax_grad;
    t->cross_entropy = cross_entropy;
    t->cross_entropy_grad = cross_entropy_grad;
}

#else
static void loss_simd(k_table *t) { (void)t; }
#endif
