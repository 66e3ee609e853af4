/* gemm_narrow_generic.c - matrix products of bf16 by the product for float32, on any CPU.
 *
 * A few rows of A and columns of B at a time are widened into scratch memory; the sums are float32
 * and stay so. The product for float32 is that of the table which is to be overlaid, as the narrow
 * table starts as a copy of the wide one. */
#include "widen.h"

enum { PIECE = 4 << 20 }; /* floats of A, and of B, about */

static k_table wide;

/* So many rows of A, columns of B, as floats in dense rows. */
typedef struct {
    k_gemm g;
    float *a, *b;
    void *rest;
    int64_t used;
} widened;

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* Of a piece with m rows and n columns. */
static k_gemm dense(const k_gemm *g, int64_t m, int64_t n) {
    k_gemm d = *g;
    d.m = m, d.n = n;
    d.lda = (g->ta ? m : g->k) + !g->k, d.ldb = (g->tb ? g->k : n) + !g->k;
    return d;
}

static widened widened_of(const k_gemm *g, void *scratch) {
    int64_t most = PIECE / (g->k + 1) + 1;
    widened v = {.g = dense(g, at_most(g->m, most), at_most(g->n, most))};
    v.a = piece_of(scratch, &v.used, v.g.m * g->k);
    v.b = piece_of(scratch, &v.used, v.g.n * g->k);
    v.rest = (char *)scratch + v.used;
    return v;
}

/* The scratch memory of a last, smaller piece may be the larger. */
static int64_t gemm_scratch(const k_gemm *g) {
    widened v = widened_of(g, 0);
    int64_t most = 0;
    int64_t m[] = {v.g.m, v.g.m ? g->m % v.g.m : 0};
    int64_t n[] = {v.g.n, v.g.n ? g->n % v.g.n : 0};
    for (int i = 0; i < 4; i++) {
        k_gemm d = dense(g, m[i % 2], n[i / 2]);
        int64_t bytes = wide.gemm_scratch(&d);
        most = bytes > most ? bytes : most;
    }
    return v.used + most;
}

/* `count` rows (or, stored transposed, columns) of k values, from the one at `first` on. */
static void widen_operand(int transposed, int64_t first, int64_t count, int64_t k,
                          const uint16_t *from, int64_t ld, float *to) {
    if (transposed)
        widen_rows(k, count, from + first, ld, to);
    else
        widen_rows(count, k, from + first * ld, ld, to);
}

static void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
                 void *scratch) {
    widened v = widened_of(g, scratch);
    for (int64_t i = 0; i < g->m; i += v.g.m) {
        int64_t m = at_most(g->m - i, v.g.m);
        widen_operand(g->ta, i, m, g->k, (const void *)a, g->lda, v.a);
        for (int64_t j = 0; j < g->n; j += v.g.n) {
            k_gemm d = dense(g, m, at_most(g->n - j, v.g.n));
            widen_operand(!g->tb, j, d.n, g->k, (const void *)b, g->ldb, v.b);
            wide.gemm(&d, v.a, v.b, bias ? bias + j : 0, c + i * g->ldc + j, v.rest);
        }
    }
}

void k_gemm_narrow_generic(k_table *t) {
    wide = *t;
    t->gemm = gemm;
    t->gemm_scratch = gemm_scratch;
    t->gemm_relu = 0;
    t->gemm_bias_grad = 0;
}
