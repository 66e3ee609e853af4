/* reduce_plain.h - reductions over strided arrays, one kept position after the other; of bf16 the
 * sum alone.
 *
 * Contract: k_reduction in kernels.h; at least one position is reduced. Sums are taken in double.
 *
 * Surprising: argmax counts positions in the order of the dimensions that it was given, and a NaN
 * beats every number, the first NaN all later ones. */
#include "element.h"
#include "kernels.h"
#include "strided.h"

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements of x a thread takes at once */

typedef float fold(const k_reduce *r, const element *x);

typedef struct {
    const k_reduce *r;
    fold *fn;
    float *y;
    const element *x;
} job;

static void job_range(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_reduce *r = j->r;
    for (int64_t i = begin; i < end; i++)
        j->y[k_offset(r->nk, r->ksize, r->sy, i)] =
            j->fn(r, j->x + k_offset(r->nk, r->ksize, r->kx, i));
}

static void reduce(const k_reduce *r, fold *fn, float *y, const float *x) {
    job j = {r, fn, y, elements_of(x)};
    int64_t reduced = k_count(r->nr, r->rsize);
    k_parallel(k_count(r->nk, r->ksize), k_max(1, GRAIN / reduced), job_range, &j);
}

#define FOR_REDUCED(i) for (int64_t i = 0, n = k_count(r->nr, r->rsize); i < n; i++)

static float value_at(const k_reduce *r, const element *x, int64_t i) {
    return from_element(x[k_offset(r->nr, r->rsize, r->rx, i)]);
}

static float sum(const k_reduce *r, const element *x) {
    double s = 0;
    FOR_REDUCED(i) s += value_at(r, x, i);
    return s;
}

#if !K_NARROW

static float max(const k_reduce *r, const element *x) {
    float best = from_element(x[0]);
    FOR_REDUCED(i) {
        float v = value_at(r, x, i);
        if (v > best || isnan(v)) best = v;
    }
    return best;
}

static float min(const k_reduce *r, const element *x) {
    float best = from_element(x[0]);
    FOR_REDUCED(i) {
        float v = value_at(r, x, i);
        if (v < best || isnan(v)) best = v;
    }
    return best;
}

static float argmax(const k_reduce *r, const element *x) {
    float best = from_element(x[0]);
    int64_t position = 0;
    FOR_REDUCED(i) {
        float v = value_at(r, x, i);
        if (v > best || (isnan(v) && !isnan(best))) {
            best = v;
            position = i;
        }
    }
    return position;
}

static float var(const k_reduce *r, const element *x) {
    double n = k_count(r->nr, r->rsize), mean = 0, s = 0;
    FOR_REDUCED(i) mean += value_at(r, x, i) / n;
    FOR_REDUCED(i) {
        double d = value_at(r, x, i) - mean;
        s += d * d;
    }
    return s / n;
}

#endif

#define REDUCTION(name)                                                                            \
    static void name##_all(const k_reduce *r, float *y, const float *x, void *scratch) {           \
        (void)scratch;                                                                             \
        reduce(r, name, y, x);                                                                     \
    }
#if K_NARROW
#define EACH(X) X(sum)
#else
#define EACH(X) K_REDUCTIONS(X)
#endif
EACH(REDUCTION)

#define SET(name) t->name = name##_all;
static void reduce_plain(k_table *t) { EACH(SET) }
