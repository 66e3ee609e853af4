/* tile.h - the micro-kernel that products and convolutions share, written once for every vector
 * width. A file compiled for AVX-512 or AVX2 includes it; both ISAs read the same lines.
 *
 * It multiplies C[rows x cols] (+)= A[rows x k] B[k x cols] in register tiles of TILE_ROWS x
 * TILE_COLS. For each p of k a tile loads TILE_COLS/LANES vectors of B and one broadcast float of A
 * a row, and does rows * TILE_COLS/LANES FMAs:
 *   AVX-512  14 x 32: 28 accumulators,  2 + 14 loads for 28 FMAs
 *   AVX2      6 x 16: 12 accumulators,  2 +  6 loads for 12 FMAs
 * so the two FMA ports, not the loads, set the pace; 32 (16) registers hold the accumulators, the
 * two vectors of B and the broadcast. Measured on Zen 5 (AVX-512, gcc 12, operands in the second
 * cache): 96 % of the FMA peak at k = 128, 99 % at k = 512.
 *
 * Surprising: A is never packed for the tile's sake. One float of each row is broadcast at a time,
 * so A may lie by rows (activations) or by columns (dy, read as its transpose) alike. */
#ifndef CNN_TILE_H
#define CNN_TILE_H

#include "kernels.h"

#include "simd.h"
#include "strided.h"

#include <string.h>

/* a0 b0 a1 b1 ..., of the low or the high halves. */
#if defined(__AVX512F__)
enum { TILE_ROWS = 14 };
static inline vec vec_interleave_low(vec a, vec b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
static inline vec vec_interleave_high(vec a, vec b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
}
#else
enum { TILE_ROWS = 6 };
static inline vec vec_interleave_low(vec a, vec b) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
static inline vec vec_interleave_high(vec a, vec b) {
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#endif

enum { TILE_COLS = 2 * LANES, VECS = TILE_COLS / LANES };

#define INLINE   static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* A row stride for blocks that are read down their columns: an odd number of cache lines, so that
 * the rows fall into different sets of the cache. */
static inline int64_t odd_stride(int64_t n) { return (ceil_div(n, 16) | 1) * 16; }

/* --------------------------------------------------------------------------------- the operands
 * C is a sum over segments, each a product of k > 0 steps; a plain product is one segment:
 *   C[i][j] = bias[j] + sum over segments s and p < k of A[i][p] B[p][j], with
 *   A[i][p] = a[s.a + i * ars + p * acs], where ars == 1 or acs == 1
 *   B[p][j] = b[s.b + j / TILE_COLS * panel + p * ldb + j % TILE_COLS]
 * and plus itself if `add`. Unless ars == 1, B is packed: vectors that `cols` cuts are read whole.
 */
typedef struct {
    int64_t a, b; /* offsets */
} segment;

typedef struct {
    int64_t rows, cols, k;
    const segment *seg;
    int64_t segs;
    const float *a;
    int64_t ars, acs;
    const float *b;
    int64_t ldb, panel;
    float *c;
    int64_t ldc;
    const float *bias; /* NULL: 0 */
    int add;
} tiles;

/* One register tile at a, b, c: rows <= TILE_ROWS, vecs <= VECS, one of the strides of A and
 * whether the last vector of B, of which `last` columns count, is read whole, are constants at each
 * call. C is prefetched: its lines are often far away, and all wanted at once at the end. */
INLINE void tile(int rows, int vecs, int whole, int64_t ars, int64_t acs, const tiles *t,
                 const float *a, const float *b, float *c, const float *bias, int64_t last) {
    int64_t ldb = t->ldb, ldc = t->ldc;
    vec sum[TILE_ROWS][VECS];
    UNROLLED for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vecs; v++) __builtin_prefetch(c + i * ldc + v * LANES, 1);
    }
    for (int v = 0; v < vecs; v++) {
        vec start = vec_set(0);
        if (bias) start = vec_load_part(bias + v * LANES, v + 1 < vecs ? LANES : last);
        for (int i = 0; i < rows; i++) sum[i][v] = start;
    }
    for (const segment *s = t->seg, *end = s + t->segs; s < end; s++) {
        const float *as = a + s->a, *bs = b + s->b;
        int64_t p = t->k;
        do {
            vec row[VECS];
            for (int v = 0; v + 1 < vecs; v++) row[v] = vec_load(bs + v * LANES);
            const float *tail = bs + (vecs - 1) * LANES;
            row[vecs - 1] = whole ? vec_load(tail) : vec_load_part(tail, last);
            for (int i = 0; i < rows; i++) {
                vec x = vec_set(as[i * ars]);
                for (int v = 0; v < vecs; v++) sum[i][v] = vec_fma(x, row[v], sum[i][v]);
            }
            as += acs, bs += ldb;
        } while (--p);
    }
    /* Masks even for whole vectors: a branch at each store cost a tenth of VGG's training. */
    UNROLLED for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vecs; v++) {
            float *to = c + i * ldc + v * LANES;
            int64_t n = v + 1 < vecs ? LANES : last;
            if (t->add) sum[i][v] += vec_load_part(to, n);
            vec_store_part(to, sum[i][v], n);
        }
    }
}

/* The tile with A by rows (acs = 1) or by columns (ars = 1), one or two vectors wide. Where both
 * are 1 either would do for A, but B may not be packed. */
INLINE void tile_of(int rows, const tiles *t, const float *a, const float *b, float *c,
                    const float *bias, int64_t cols) {
    if (t->ars != 1 && cols > LANES)
        tile(rows, 2, 1, t->ars, 1, t, a, b, c, bias, cols - LANES);
    else if (t->ars != 1)
        tile(rows, 1, 1, t->ars, 1, t, a, b, c, bias, cols);
    else if (cols == TILE_COLS)
        tile(rows, 2, 1, 1, t->acs, t, a, b, c, bias, LANES);
    else if (cols > LANES)
        tile(rows, 2, 0, 1, t->acs, t, a, b, c, bias, cols - LANES);
    else
        tile(rows, 1, 0, 1, t->acs, t, a, b, c, bias, cols);
}

static void tile_rows(int rows, const tiles *t, const float *a, const float *b, float *c,
                      const float *bias, int64_t cols) {
#define TILE_CASE(r)                                                                               \
    case r:                                                                                        \
        tile_of(r, t, a, b, c, bias, cols);                                                        \
        break;
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
#if defined(__AVX512F__)
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12) TILE_CASE(13) TILE_CASE(14)
#endif
    }
#undef TILE_CASE
}

/* The whole block, a panel of B after the other. Rows are cut into tiles of almost equal height. */
static void multiply_tiles(const tiles *t) {
    int64_t cuts = ceil_div(t->rows, TILE_ROWS);
    for (int64_t j = 0; j < t->cols; j += TILE_COLS) {
        const float *b = t->b + j / TILE_COLS * t->panel;
        const float *bias = t->bias ? t->bias + j : NULL;
        for (int64_t i = 0; i < cuts; i++) {
            int64_t row = t->rows * i / cuts, end = t->rows * (i + 1) / cuts;
            tile_rows((int)(end - row), t, t->a + row * t->ars, b, t->c + row * t->ldc + j, bias,
                      k_min(t->cols - j, TILE_COLS));
        }
    }
}

/* -------------------------------------------------------------------------------------- copying */

static inline void copy_floats(float *to, const float *from, int64_t n) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) vec_store(to + i, vec_load(from + i));
    if (i < n) vec_store_part(to + i, vec_load_part(from + i, n - i), n - i);
}

static inline void zero_floats(float *to, int64_t n) { memset(to, 0, (size_t)n * sizeof *to); }

/* Turns LANES vectors, the rows of a square, into its columns: each round interleaves the two
 * halves, and after log2(LANES) rounds position i, j has moved to j, i. */
INLINE void transpose(vec x[LANES]) {
    UNROLLED for (int round = 1; round < LANES; round *= 2) {
        vec y[LANES];
        UNROLLED for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = vec_interleave_low(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = vec_interleave_high(x[i], x[i + LANES / 2]);
        }
        UNROLLED for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
}

/* to[p * TILE_COLS + j] = from[p + j * js] for p < k and j < LANES; rows j >= cols are 0. */
static inline void pack_transposed(float *to, const float *from, int64_t k, int64_t cols,
                                   int64_t js) {
    for (int64_t p = 0; p < k; p += LANES) {
        int64_t n = k_min(k - p, LANES);
        vec x[LANES];
        UNROLLED for (int j = 0; j < LANES; j++) {
            x[j] = j < cols ? vec_load_part(from + j * js + p, n) : vec_set(0);
        }
        transpose(x);
        UNROLLED for (int i = 0; i < LANES; i++) {
            if (i < n) vec_store(to + (p + i) * TILE_COLS, x[i]);
        }
    }
}

/* Panels of B, each k * TILE_COLS floats: to[j * k + p * TILE_COLS] and the columns after it get
 * from[p * ks + j * js], for p < k and j = 0, TILE_COLS, ... < cols. ks or js is 1. The columns
 * beyond cols become 0. */
static inline void pack_panels(float *to, const float *from, int64_t k, int64_t cols, int64_t ks,
                               int64_t js) {
    if (js != 1) {
        for (int64_t j = 0; j < round_up(cols, TILE_COLS); j += LANES)
            pack_transposed(to + j / TILE_COLS * TILE_COLS * k + j % TILE_COLS, from + j * js, k,
                            cols - j, js);
        return;
    }
    for (int64_t p = 0; p < k; p++, from += ks, to += TILE_COLS)
        for (int64_t j = 0; j < cols; j += TILE_COLS) {
            if (cols - j < TILE_COLS) zero_floats(to + j * k, TILE_COLS);
            copy_floats(to + j * k, from + j, k_min(cols - j, TILE_COLS));
        }
}

#endif
