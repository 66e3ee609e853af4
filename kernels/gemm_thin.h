/* gemm_thin.h - A B^T for a few rows of A: a Linear layer that predicts a small batch.
 *
 * The weights B are as good as all there is to read, each is used once a row of A, and both lie
 * along k. So nothing is packed: a tile of THIN_ROWS x 4 results keeps one vector of partial sums
 * for each, over the whole of k, and adds up its lanes at the end, four results at a time:
 *   AVX-512  6 x 4: 24 accumulators, 4 + 6 loads for 24 FMAs
 *   AVX2     2 x 4:  8 accumulators, 4 + 2 loads for  8 FMAs
 * The rows of A stay in the second cache (THIN_FLOATS), the four rows of B too, for the next rows.
 *
 * Surprising: it needs no scratch, and where the columns are no multiple of four the last tile
 * reads its first row of B again instead of having a narrower twin. */
#ifndef CNN_GEMM_THIN_H
#define CNN_GEMM_THIN_H

#include "tile.h"

#if defined(__AVX512F__)
enum { THIN_ROWS = 6 };
#else
enum { THIN_ROWS = 2 };
#endif

enum {
    QUAD = 4,              /* columns of a tile */
    THIN_MOST = 24,        /* rows of A; with more, packing pays */
    THIN_DEPTH = 16,       /* k for each of them, or adding up the lanes costs more than it saves */
    THIN_FLOATS = 3 << 16, /* of A: three quarters of the second cache */
    THIN_TASK = 1 << 16    /* multiplications worth a task of their own */
};

/* The sums of four vectors. */
INLINE __m128 sum_lanes(const vec x[QUAD]) {
    __m128 sum[QUAD];
    UNROLLED for (int i = 0; i < QUAD; i++) {
#if defined(__AVX512F__)
        __m256 half = _mm512_castps512_ps256(x[i]) + _mm512_extractf32x8_ps(x[i], 1);
#else
        __m256 half = x[i];
#endif
        sum[i] = _mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1);
    }
    return _mm_hadd_ps(_mm_hadd_ps(sum[0], sum[1]), _mm_hadd_ps(sum[2], sum[3]));
}

/* c[i][j] = bias[j] + sum over p < k of a[i][p] b[j][p], for i < rows and j < cols <= QUAD. */
INLINE void dot_tile(int rows, int64_t cols, const k_gemm *g, const float *a, const float *b,
                     const float *bias, float *c) {
    const float *row[QUAD];
    vec sum[THIN_ROWS][QUAD];
    UNROLLED for (int j = 0; j < QUAD; j++) {
        row[j] = b + (j < cols ? j : 0) * g->ldb;
        for (int i = 0; i < rows; i++) sum[i][j] = vec_set(0);
    }
    for (int64_t p = 0; p < g->k; p += LANES) {
        vec y[QUAD];
        UNROLLED for (int j = 0; j < QUAD; j++) y[j] = vec_load_upto(row[j] + p, g->k - p);
        UNROLLED for (int i = 0; i < rows; i++) {
            vec x = vec_load_upto(a + i * g->lda + p, g->k - p);
            UNROLLED for (int j = 0; j < QUAD; j++) sum[i][j] = vec_fma(x, y[j], sum[i][j]);
        }
    }
    UNROLLED for (int i = 0; i < rows; i++) {
        float result[QUAD];
        _mm_storeu_ps(result, sum_lanes(sum[i]));
        for (int64_t j = 0; j < cols; j++) c[i * g->ldc + j] = result[j] + (bias ? bias[j] : 0);
    }
}

static void dot_rows(int rows, int64_t cols, const k_gemm *g, const float *a, const float *b,
                     const float *bias, float *c) {
#define DOT_CASE(r)                                                                                \
    case r:                                                                                        \
        dot_tile(r, cols, g, a, b, bias, c);                                                       \
        break;
    switch (rows) {
        DOT_CASE(1)
        DOT_CASE(2)
#if defined(__AVX512F__)
        DOT_CASE(3)
        DOT_CASE(4)
        DOT_CASE(5)
        DOT_CASE(6)
#endif
    }
#undef DOT_CASE
}

typedef struct {
    const k_gemm *g;
    const float *a, *b, *bias;
    float *c;
} thin_product;

/* Quads of columns [begin, end); the rows of A in tiles of almost equal height. */
static void thin_columns(void *ctx, int64_t begin, int64_t end) {
    const thin_product *t = ctx;
    const k_gemm *g = t->g;
    int64_t cuts = ceil_div(g->m, THIN_ROWS);
    for (int64_t j = begin * QUAD; j < k_min(end * QUAD, g->n); j += QUAD)
        for (int64_t i = 0; i < cuts; i++) {
            int64_t row = g->m * i / cuts, next = g->m * (i + 1) / cuts;
            dot_rows((int)(next - row), k_min(QUAD, g->n - j), g, t->a + row * g->lda,
                     t->b + j * g->ldb, t->bias ? t->bias + j : NULL, t->c + row * g->ldc + j);
        }
}

/* Measured against tiles: 3 times at 1 row of 6400 and of 4096 (which the memory's read rate
 * bounds), 2 at 4, 1.6 at 8, 1.2 at 24; in the caches 7, 5, 2.7, 1.3. */
static int is_thin(const k_gemm *g) {
    return !g->ta && g->tb && g->m > 0 && g->m <= THIN_MOST && g->k >= g->m * THIN_DEPTH &&
           g->m * g->k <= THIN_FLOATS;
}

static void gemm_thin(const k_gemm *g, const float *a, const float *b, const float *bias,
                      float *c) {
    thin_product t = {g, a, b, bias, c};
    int64_t quad = QUAD * g->m * g->k;
    k_parallel(ceil_div(g->n, QUAD), k_max(THIN_TASK / quad, 1), thin_columns, &t);
}

#endif
