/* columns_simd.h - sums, moments and dot products over the rows of a matrix, one for each column.
 *
 * It serves batch normalization and channels-last reductions. The rows are cut into at most SLICES
 * slices, by the shape alone; a slice adds up in float for BLOCK rows, then in double, and slices
 * are put together in their order. One read of memory: an element (two for the dot products).
 *
 * Surprising: moments need no second pass. A block subtracts its own first row, which lies within a
 * few deviations of its mean, so nothing cancels; blocks are merged by Chan's formula. */
#ifndef CNN_COLUMNS_SIMD_H
#define CNN_COLUMNS_SIMD_H

#include "element.h"
#include "kernels.h"
#include "strided.h"

#if K_SIMD

#include <string.h>

enum {
    COLUMNS = 1024,       /* of a panel: its sums stay in the L1 cache */
    SLICES = 16,          /* at most */
    SLICE_SIZE = 1 << 14, /* elements, at least */
    BLOCK = 64,           /* numbers added up in float */
    ROWS = 16,            /* rows added up in registers, unless a whole row fits in them */
    WIDE = 4              /* vectors side by side */
};

enum fold { SUM, MOMENTS, DOT };

/* A panel of at most COLUMNS columns. Its rows may have several dimensions, as a k_reduce has. */
typedef struct {
    enum fold fold;
    const element *x;
    int64_t columns, rows;
    int nr;
    const int64_t *rsize, *rx;
    const element *dy; /* DOT: of dy, in rows of ldy, and x - shift */
    int64_t ldy;
    const float *shift;
} panel;

/* s[c], q[c]: SUM: the sum of x, -; MOMENTS: mean and sum of squares around it; DOT: the sums of dy
 * and of dy (x - shift). */
typedef struct {
    double s[COLUMNS], q[COLUMNS];
    int64_t rows;
} totals;

/* Adds rows of a block to float sums: u to s and u v to q, with v = x - shift and u = v or dy. It
 * takes vecs * LANES columns, of which the first n are real where vecs is 1. */
__attribute__((always_inline)) static inline void
add_columns(enum fold fold, int vecs, int64_t n, int64_t rows, const element *x, int64_t ldx,
            const element *dy, int64_t ldy, const float *shift, float *s, float *q) {
    vec sum[WIDE], square[WIDE], around[WIDE];
    for (int k = 0; k < vecs; k++) {
        sum[k] = vec_load(s + k * LANES);
        square[k] = vec_load(q + k * LANES);
        if (fold != SUM) around[k] = vec_load_upto(shift + k * LANES, n);
    }
    for (int64_t r = 0; r < rows; r++, x += ldx) {
        for (int k = 0; k < vecs; k++) {
            vec v = load_upto(x + k * LANES, n);
            vec_prefetch(x + (vecs + k) * LANES); /* the columns that follow */
            if (fold == DOT) vec_prefetch(dy + r * ldy + (vecs + k) * LANES);
            if (fold != SUM) v = v - around[k];
            vec u = fold == DOT ? load_upto(dy + r * ldy + k * LANES, n) : v;
            sum[k] = sum[k] + u;
            if (fold != SUM) square[k] = vec_fma(u, v, square[k]);
        }
    }
    for (int k = 0; k < vecs; k++) {
        vec_store(s + k * LANES, sum[k]);
        if (fold != SUM) vec_store(q + k * LANES, square[k]);
    }
}

__attribute__((always_inline)) static inline void
add_rows(enum fold fold, int64_t columns, int64_t rows, const element *x, int64_t ldx,
         const element *dy, int64_t ldy, const float *shift, float *s, float *q) {
    int64_t c = 0;
    for (; c + WIDE * LANES <= columns; c += WIDE * LANES)
        add_columns(fold, WIDE, LANES, rows, x + c, ldx, dy + c, ldy, shift + c, s + c, q + c);
    for (; c < columns; c += LANES)
        add_columns(fold, 1, columns - c, rows, x + c, ldx, dy + c, ldy, shift + c, s + c, q + c);
}

/* Merges moments: of t so far, and of `rows` more with this mean and sum of squares. */
static void merge_moments(totals *t, int64_t columns, int64_t rows, const double *mean,
                          const double *square) {
    double n = t->rows + rows, part = rows / n, both = t->rows * part;
    for (int64_t c = 0; c < columns; c++) {
        double d = mean[c] - t->s[c];
        t->s[c] += d * part;
        t->q[c] += square[c] + d * d * both;
    }
    t->rows += rows;
}

/* Memory is best read in its order: rows that fit the registers whole, others ROWS at a time. */
static void add_matrix(enum fold fold, int64_t columns, int64_t rows, const element *x, int64_t ldx,
                       const element *dy, int64_t ldy, const float *shift, float *s, float *q) {
    const int64_t step = columns <= WIDE * LANES ? rows : ROWS;
    for (int64_t r = 0; r < rows; r += step, x += step * ldx, dy += step * ldy) {
        int64_t n = k_min(step, rows - r);
        if (fold == SUM) add_rows(SUM, columns, n, x, ldx, dy, ldy, shift, s, q);
        if (fold == MOMENTS) add_rows(MOMENTS, columns, n, x, ldx, dy, ldy, shift, s, q);
        if (fold == DOT) add_rows(DOT, columns, n, x, ldx, dy, ldy, shift, s, q);
    }
}

/* How many dense rows are best taken as one: several where one would not fill vectors. */
static int64_t rows_filling_vectors(int64_t columns) {
    int64_t k = 1;
    if (columns > COLUMNS / LANES) return k;
    while (columns * k % LANES) k *= 2;
    return k;
}

/* Adds at most BLOCK rows, each of them `joined` rows, ldx apart. */
static void add_block(const panel *m, totals *t, int64_t joined, int64_t rows, const element *x,
                      int64_t ldx, const element *dy) {
    float s[COLUMNS], q[COLUMNS], shift[COLUMNS];
    const int64_t columns = m->columns, wide = columns * joined, left = rows % joined;
    const int64_t ldy = m->fold == DOT ? m->ldy : ldx;
    memset(s, 0, (wide + LANES - 1) / LANES * sizeof(vec));
    memset(q, 0, (wide + LANES - 1) / LANES * sizeof(vec));
    if (m->fold != SUM)
        for (int64_t c = 0; c < columns; c++)
            shift[c] = m->fold == DOT ? m->shift[c] : from_element(x[c]);
    if (m->fold != SUM)
        for (int64_t c = columns; c < wide; c++) shift[c] = shift[c - columns];
    add_matrix(m->fold, wide, rows / joined, x, joined * ldx, dy, joined * ldy, shift, s, q);
    if (left) {
        int64_t done = rows - left;
        add_matrix(m->fold, left * columns, 1, x + done * ldx, 0, dy + done * ldy, 0, shift, s, q);
    }
    for (int64_t c = columns; c < wide; c++) {
        s[c % columns] += s[c];
        q[c % columns] += q[c];
    }
    if (m->fold != MOMENTS) {
        for (int64_t c = 0; c < columns; c++) t->s[c] += s[c];
        for (int64_t c = 0; c < columns; c++) t->q[c] += q[c];
        return;
    }
    double mean[COLUMNS], square[COLUMNS];
    for (int64_t c = 0; c < columns; c++) {
        double d = s[c] / (double)rows, around = q[c] - d * s[c]; /* NaN stays */
        mean[c] = shift[c] + d;
        square[c] = around < 0 ? 0 : around;
    }
    merge_moments(t, columns, rows, mean, square);
}

/* Rows [begin, end) of a panel, counted over all its row dimensions. */
static void add_range(const panel *m, totals *t, int64_t begin, int64_t end) {
    int last = m->nr - 1;
    int64_t inner = m->rsize[last], ldx = m->rx[last];
    int dense = ldx == m->columns && (m->fold != DOT || ldx == m->ldy);
    int64_t joined = dense ? rows_filling_vectors(m->columns) : 1;
    t->rows = 0;
    memset(t->s, 0, m->columns * sizeof *t->s);
    memset(t->q, 0, m->columns * sizeof *t->q);
    for (int64_t r = begin, n; r < end; r += n) {
        n = k_min(k_min(BLOCK * joined, end - r), inner - r % inner);
        const element *x = m->x + k_offset(last, m->rsize, m->rx, r / inner) + r % inner * ldx;
        add_block(m, t, joined, n, x, ldx, m->fold == DOT ? m->dy + r * m->ldy : x);
    }
}

typedef struct {
    const panel *m;
    totals *part;
    int64_t slice; /* rows */
} slices_job;

static void add_slices(void *ctx, int64_t begin, int64_t end) {
    const slices_job *j = ctx;
    for (int64_t i = begin; i < end; i++)
        add_range(j->m, &j->part[i], i * j->slice, k_min((i + 1) * j->slice, j->m->rows));
}

/* The whole panel, in parallel slices; part[0] gets the result. */
static void add_panel(const panel *m, totals part[SLICES]) {
    int64_t slices = k_min(SLICES, k_max(1, m->rows * m->columns / SLICE_SIZE));
    slices_job j = {m, part, k_max(1, (m->rows + slices - 1) / slices)};
    slices = k_max(1, (m->rows + j.slice - 1) / j.slice);
    k_parallel(slices, 1, add_slices, &j);
    for (int64_t i = 1; i < slices; i++) {
        if (m->fold == MOMENTS) {
            merge_moments(part, m->columns, part[i].rows, part[i].s, part[i].q);
            continue;
        }
        for (int64_t c = 0; c < m->columns; c++) part->s[c] += part[i].s[c];
        for (int64_t c = 0; c < m->columns; c++) part->q[c] += part[i].q[c];
    }
}

#endif
#endif
