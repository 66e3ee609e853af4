/* gemm_generic.c - the matrix product as its definition reads: the oracle of the other variants.
 *
 * Sums run over k in order and in double, so the result is the float next to the true one (almost
 * always); a faster variant may differ from it by the rounding of its own float sums. */
#include "kernels.h"

typedef struct {
    const k_gemm *g;
    const float *a, *b, *bias;
    float *c;
} product;

static void product_rows(void *ctx, int64_t begin, int64_t end) {
    const product *t = ctx;
    const k_gemm *g = t->g;
    int64_t ai = g->ta ? 1 : g->lda, ap = g->ta ? g->lda : 1;
    int64_t bp = g->tb ? 1 : g->ldb, bj = g->tb ? g->ldb : 1;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < g->n; j++) {
            float *c = t->c + i * g->ldc + j;
            double sum = t->bias ? t->bias[j] : 0;
            for (int64_t p = 0; p < g->k; p++)
                sum += (double)t->a[i * ai + p * ap] * t->b[p * bp + j * bj];
            *c = (float)sum;
        }
}

static void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
                 void *scratch) {
    (void)scratch;
    product t = {g, a, b, bias, c};
    k_parallel(g->m, 1, product_rows, &t);
}

static int64_t gemm_scratch(const k_gemm *g) {
    (void)g;
    return 0;
}

void k_gemm_generic(k_table *t) {
    t->gemm = gemm;
    t->gemm_scratch = gemm_scratch;
}
