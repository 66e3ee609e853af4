/* pointwise_plain.h - every elementwise operation as one line: its name and its formula.
 *
 * Contract: k_pointwise in kernels.h. A, B, C are the inputs' elements, P[0] and P[1] the numbers.
 *
 * Surprising: which NaN and which zero comes out of max, min, relu and clamp is written so that one
 * x86 instruction agrees: max(a, b) is a > b ? a : b, hence b whenever the comparison fails. */
#include "element.h"
#include "kernels.h"
#include "strided.h"

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements a thread takes at once */

/* The operands along the innermost dimension; inputs that an operation does not take are NULL. */
typedef struct {
    element *y;
    const element *a, *b, *c;
    int64_t sy, sa, sb, sc;
} run;

typedef void run_function(int64_t n, run r, const float *p);

typedef struct {
    const k_loop *l;
    run_function *fn;
    element *y;
    const element *a, *b, *c;
    const float *p;
} job;

static const element *at(const element *x, const k_loop *l, const int64_t *stride, int64_t row,
                         int64_t column) {
    int last = l->nd - 1;
    return x ? x + k_offset(last, l->size, stride, row) + column * stride[last] : NULL;
}

static void job_range(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_loop *l = j->l;
    int last = l->nd - 1;
    int64_t inner = l->size[last];
    for (int64_t i = begin, n; i < end; i += n) {
        int64_t row = i / inner, column = i % inner;
        n = k_min(inner - column, end - i);
        run r = {(element *)at(j->y, l, l->sy, row, column),
                 at(j->a, l, l->sa, row, column),
                 at(j->b, l, l->sb, row, column),
                 at(j->c, l, l->sc, row, column),
                 l->sy[last],
                 l->sa[last],
                 l->sb[last],
                 l->sc[last]};
        j->fn(n, r, j->p);
    }
}

#define A from_element(r.a[i * r.sa])
#define B from_element(r.b[i * r.sb])
#define C from_element(r.c[i * r.sc])
#define P p

#define POINTWISE(name, formula)                                                                   \
    static void name##_run(int64_t n, run r, const float *p) {                                     \
        (void)p;                                                                                   \
        for (int64_t i = 0; i < n; i++) r.y[i * r.sy] = to_element(formula);                       \
    }                                                                                              \
    static void name##_loop(const k_loop *l, float *y, const float *a, const float *b,             \
                            const float *c, const float p[2]) {                                    \
        job j = {l, name##_run, elements(y), elements_of(a), elements_of(b), elements_of(c), p};   \
        k_parallel(k_count(l->nd, l->size), GRAIN, job_range, &j);                                 \
    }

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static float clamp(float x, float lo, float hi) {
    x = lo > x ? lo : x;
    return hi < x ? hi : x;
}

/* The normal distribution's integral; through erfc, as 1 + erf would cancel left of zero. */
static double normal_cdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
static double normal_pdf(double x) { return 0.5 * M_2_SQRTPI * M_SQRT1_2 * exp(-0.5 * x * x); }

POINTWISE(copy, A)
POINTWISE(add, A + B)
POINTWISE(sub, A - B)
POINTWISE(mul, A *B)
POINTWISE(div, A / B)
POINTWISE(pow, powf(A, B))
POINTWISE(maximum, A > B || isnan(A) ? A : B)
POINTWISE(minimum, A < B || isnan(A) ? A : B)
#if !K_NARROW
POINTWISE(eq, A == B)
POINTWISE(ne, A != B)
POINTWISE(lt, A < B)
POINTWISE(le, A <= B)
POINTWISE(gt, A > B)
POINTWISE(ge, A >= B)
#endif
POINTWISE(where, A != 0 ? B : C)
POINTWISE(neg, -A)
POINTWISE(exp, expf(A))
POINTWISE(log, logf(A))
POINTWISE(sqrt, sqrtf(A))
POINTWISE(abs, fabsf(A))
POINTWISE(sign, isnan(A) ? A : (A > 0) - (A < 0))
POINTWISE(tanh, tanhf(A))
POINTWISE(sigmoid, sigmoid(A))
POINTWISE(relu, 0 > A ? 0 : A)
POINTWISE(leaky_relu, A > 0 ? A : P[0] * A)
POINTWISE(gelu, A *normal_cdf(A))
POINTWISE(silu, A / (1 + expf(-A)))
POINTWISE(clamp, clamp(A, P[0], P[1]))
POINTWISE(affine, P[0] * A + P[1])
POINTWISE(tanh_grad, A *(1 - B * B))
POINTWISE(sigmoid_grad, A *B *(1 - B))
POINTWISE(relu_grad, B > 0 ? A : 0)
POINTWISE(leaky_relu_grad, B > 0 ? A : P[0] * A)
POINTWISE(gelu_grad, A *(normal_cdf(B) + B * normal_pdf(B)))
POINTWISE(silu_grad, A *sigmoid(B) * (1 + B * (1 - sigmoid(B))))
POINTWISE(clamp_grad, P[0] < B && B < P[1] ? A : 0)

#define SET(name) t->name = name##_loop;
static void pointwise_plain(k_table *t) {
    K_ARITHMETIC(SET)
#if !K_NARROW
    K_COMPARISONS(SET)
#endif
}
