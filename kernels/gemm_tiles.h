/* gemm_tiles.h - the matrix product in register tiles (tile.h), written once for every vector
 * width.
 *
 * C is cut into blocks by its shape. A task makes one block: for each BLOCK_K of k it copies its
 * rows of A and its columns of B (panels) to where they lie close together, in the second cache,
 * and multiplies them there. Measured on Zen 5 (AVX-512, share of the FMA peak of 280 GFLOP/s a
 * core): 65 % to 77 % on 128 x 4096 x 6400 and its gradients and on squares of 1024 and 2000,
 * where OpenBLAS 0.3.21 with its SKYLAKEX core reaches 66 % to 80 %; copying takes most of the
 * rest.
 *
 * Surprising: A B^T with more columns than rows (a Linear layer) is made as (B A^T)^T. Panels of
 * the transposed operand cost a transposition, rows of A cost a plain copy, so the big operand, the
 * weights, plays A; the small result is transposed on its way out. A few rows of A times B^T are
 * not worth packing at all: gemm_thin.h. */
#ifndef CNN_GEMM_TILES_H
#define CNN_GEMM_TILES_H

#include "gemm_thin.h"
#include "tile.h"

enum {
    BLOCK_ROWS = 168, /* 12 tiles of 14, 28 of 6 */
    BLOCK_COLS = 256,
    BLOCK_K = 256,
    TASKS = 16,          /* wanted at least, for any number of threads to share */
    SMALL = 64 * 64 * 64 /* multiplications that are not worth a second task */
};

/* out[i, j] = sum over p of a[i * ars + p * acs] * b[p * brs + j * bcs] */
typedef struct {
    int64_t rows, cols, k;
    const float *a, *b;
    int64_t ars, acs, brs, bcs;
    float *c;
    int64_t ldc;
    int transposed; /* out is C^T: rows of out are columns of C */
    const float *bias;
    int64_t row_cuts, col_cuts;
    float *blocks;
} product;

static int64_t cut_at(int64_t n, int64_t unit, int64_t cuts, int64_t i) {
    return k_min(ceil_div(n, unit) * i / cuts * unit, n);
}

static int64_t largest_cut(int64_t n, int64_t unit, int64_t cuts) {
    return ceil_div(ceil_div(n, unit), cuts) * unit;
}

static product plan_product(const k_gemm *g) {
    product p = {.rows = g->m, .cols = g->n, .k = g->k, .ldc = g->ldc};
    p.ars = g->ta ? 1 : g->lda, p.acs = g->ta ? g->lda : 1;
    p.brs = g->tb ? 1 : g->ldb, p.bcs = g->tb ? g->ldb : 1;
    p.transposed = g->tb && !g->ta && g->n > g->m;
    if (p.transposed) {
        p.rows = g->n, p.cols = g->m;
        p.ars = g->ldb, p.acs = 1;
        p.brs = 1, p.bcs = g->lda;
    }
    p.row_cuts = k_max(ceil_div(p.rows, BLOCK_ROWS), 1);
    p.col_cuts = k_max(ceil_div(p.cols, BLOCK_COLS), 1);
    if (p.rows * p.cols * p.k <= SMALL) return p;
    while (p.row_cuts * p.col_cuts < TASKS) {
        int64_t rows = p.rows / p.row_cuts, cols = p.cols / p.col_cuts;
        if (rows >= 2 * TILE_ROWS && (rows >= cols || cols < 2 * TILE_COLS))
            p.row_cuts *= 2;
        else if (cols >= 2 * TILE_COLS)
            p.col_cuts *= 2;
        else
            break;
    }
    return p;
}

/* The parts of a worker's block, in floats. */
static int64_t a_size(const product *p) {
    int64_t rows = largest_cut(p->rows, 1, p->row_cuts);
    return k_max(rows * odd_stride(BLOCK_K), BLOCK_K * odd_stride(rows));
}
static int64_t b_size(const product *p) {
    return largest_cut(p->cols, TILE_COLS, p->col_cuts) * BLOCK_K;
}
static int64_t result_size(const product *p) {
    if (!p->transposed) return 0;
    return largest_cut(p->rows, 1, p->row_cuts) * largest_cut(p->cols, TILE_COLS, p->col_cuts);
}

/* Copies rows x [k0, k0 + k) of A; tells the tiles where and how it lies. */
static void copy_a(const product *p, int64_t row, int64_t rows, int64_t k0, int64_t k, float *to,
                   tiles *t) {
    const float *from = p->a + row * p->ars + k0 * p->acs;
    t->a = to;
    if (p->acs == 1) {
        t->ars = odd_stride(k), t->acs = 1;
        for (int64_t i = 0; i < rows; i++) copy_floats(to + i * t->ars, from + i * p->ars, k);
    } else {
        t->ars = 1, t->acs = odd_stride(rows);
        for (int64_t i = 0; i < k; i++) copy_floats(to + i * t->acs, from + i * p->acs, rows);
    }
}

static void store_transposed(const product *p, int64_t row, int64_t rows, int64_t col, int64_t cols,
                             const float *from) {
    for (int64_t j = 0; j < cols; j++) {
        float *c = p->c + (col + j) * p->ldc + row;
        for (int64_t i = 0; i < rows; i++)
            c[i] = from[i * cols + j] + (p->bias ? p->bias[row + i] : 0);
    }
}

static void product_block(const product *p, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    float *a = p->blocks + k_worker() * (a_size(p) + b_size(p) + result_size(p));
    float *b = a + a_size(p), *result = b + b_size(p);
    segment whole = {0, 0};
    tiles t = {.seg = &whole,
               .segs = p->k > 0,
               .rows = rows,
               .cols = cols,
               .b = b,
               .ldb = TILE_COLS,
               .c = result,
               .ldc = cols};
    if (!p->transposed) {
        t.c = p->c + row * p->ldc + col, t.ldc = p->ldc;
        t.bias = p->bias ? p->bias + col : NULL;
    }
    for (int64_t k = 0; k == 0 || k < p->k; k += BLOCK_K) {
        t.k = k_min(BLOCK_K, p->k - k), t.panel = t.k * TILE_COLS;
        copy_a(p, row, rows, k, t.k, a, &t);
        pack_panels(b, p->b + k * p->brs + col * p->bcs, t.k, cols, p->brs, p->bcs);
        multiply_tiles(&t);
        t.bias = NULL, t.add = 1;
    }
    if (p->transposed) store_transposed(p, row, rows, col, cols, result);
}

static void product_blocks(void *ctx, int64_t begin, int64_t end) {
    const product *p = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t r = i / p->col_cuts, c = i % p->col_cuts;
        int64_t row = cut_at(p->rows, 1, p->row_cuts, r);
        int64_t col = cut_at(p->cols, TILE_COLS, p->col_cuts, c);
        product_block(p, row, cut_at(p->rows, 1, p->row_cuts, r + 1) - row, col,
                      cut_at(p->cols, TILE_COLS, p->col_cuts, c + 1) - col);
    }
}

static void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
                 void *scratch) {
    if (is_thin(g)) {
        gemm_thin(g, a, b, bias, c);
        return;
    }
    product p = plan_product(g);
    p.a = p.transposed ? b : a, p.b = p.transposed ? a : b;
    p.c = c, p.bias = bias, p.blocks = scratch;
    if (p.rows && p.cols) k_parallel(p.row_cuts * p.col_cuts, 1, product_blocks, &p);
}

static int64_t gemm_scratch(const k_gemm *g) {
    product p = plan_product(g);
    return k_threads() * (a_size(&p) + b_size(&p) + result_size(&p)) * (int64_t)sizeof(float);
}

static void gemm_tiles(k_table *t) {
    t->gemm = gemm;
    t->gemm_scratch = gemm_scratch;
}

#endif
