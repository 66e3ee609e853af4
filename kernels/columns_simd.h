/* columns_simd.h - sums, moments and dot products over the rows of a matrix, one for each column.
 *
 * It serves batch normalization and channels-last reductions. The rows are cut into at most SLICES
 * slices, by the shape alone; a slice adds up in float for BLOCK rows, then in double, and slices
 * are put together in their order. One read of memory: 4 bytes an element (8 for the dot products).
 *
 * Surprising: moments need no second pass. A block subtracts its own first row, which lies within a
 * few deviations of its mean, so nothing cancels; blocks are merged by Chan's formula. */
#ifndef CNN_COLUMNS_SIMD_H
#define CNN_COLUMNS_SIMD_H

#include "kernels.h"
#include "simd.h"
#include "strided.h"

#if K_SIMD

#include <string.h>

enum {
    COLUMNS = 512,        /* of a panel: its sums stay in the L1 cache */
    SLICES = 16,          /* at most */
    SLICE_SIZE = 1 << 14, /* elements, at least */
    BLOCK = 64,           /* rows added up in float */
    ROWS = 8              /* rows added up in a register */
};

enum fold { SUM, MOMENTS, DOT };

/* A panel of at most COLUMNS columns. Its rows may have several dimensions, as a k_reduce has. */
typedef struct {
    enum fold fold;
    const float *x;
    int64_t columns, rows;
    int nr;
    const int64_t *rsize, *rx;
    const float *dy, *shift; /* DOT: of dy and x - shift; dy has rows of ldy */
    int64_t ldy;
} panel;

/* s[c], q[c]: SUM: the sum of x, -; MOMENTS: mean and sum of squares around it; DOT: the sums of dy
 * and of dy (x - shift). */
typedef struct {
    double s[COLUMNS], q[COLUMNS];
    int64_t rows;
} totals;

/* Adds a few rows of a block to float sums: u to s and u v to q, with v = x - shift and u = v or
 * dy. */
__attribute__((always_inline)) static inline void
add_rows(enum fold fold, int64_t columns, int64_t rows, const float *x, int64_t ldx,
         const float *dy, int64_t ldy, const float *shift, float *s, float *q) {
    for (int64_t c = 0; c < columns; c += LANES) {
        int64_t n = columns - c;
        vec sum = vec_load(s + c), square = vec_load(q + c);
        vec around = fold == SUM ? vec_set(0) : vec_load_upto(shift + c, n);
        for (int64_t r = 0; r < rows; r++) {
            vec v = vec_load_upto(x + r * ldx + c, n);
            if (fold != SUM) v = v - around;
            vec u = fold == DOT ? vec_load_upto(dy + r * ldy + c, n) : v;
            sum = sum + u;
            if (fold != SUM) square = vec_fma(u, v, square);
        }
        vec_store(s + c, sum);
        if (fold != SUM) vec_store(q + c, square);
    }
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

/* Adds at most BLOCK rows, ldx apart. */
static void add_block(const panel *m, totals *t, int64_t rows, const float *x, int64_t ldx,
                      const float *dy) {
    float s[COLUMNS], q[COLUMNS];
    memset(s, 0, (m->columns + LANES - 1) / LANES * sizeof(vec));
    memset(q, 0, (m->columns + LANES - 1) / LANES * sizeof(vec));
    const float *shift = m->fold == MOMENTS ? x : m->shift;
    for (int64_t r = 0; r < rows; r += ROWS) {
        const float *xr = x + r * ldx, *dyr = dy ? dy + r * m->ldy : NULL;
        int64_t n = k_min(ROWS, rows - r);
        switch (m->fold) {
        case SUM:
            add_rows(SUM, m->columns, n, xr, ldx, NULL, 0, NULL, s, q);
            break;
        case MOMENTS:
            add_rows(MOMENTS, m->columns, n, xr, ldx, NULL, 0, shift, s, q);
            break;
        case DOT:
            add_rows(DOT, m->columns, n, xr, ldx, dyr, m->ldy, shift, s, q);
            break;
        }
    }
    if (m->fold != MOMENTS) {
        for (int64_t c = 0; c < m->columns; c++) t->s[c] += s[c];
        for (int64_t c = 0; c < m->columns; c++) t->q[c] += q[c];
        return;
    }
    double mean[COLUMNS], square[COLUMNS];
    for (int64_t c = 0; c < m->columns; c++) {
        double d = s[c] / (double)rows;
        mean[c] = x[c] + d;
        double around = q[c] - d * s[c]; /* NaN stays */
        square[c] = around < 0 ? 0 : around;
    }
    merge_moments(t, m->columns, rows, mean, square);
}

/* Rows [begin, end) of a panel, counted over all its row dimensions. */
static void add_range(const panel *m, totals *t, int64_t begin, int64_t end) {
    int last = m->nr - 1;
    int64_t inner = m->rsize[last], ldx = m->rx[last];
    memset(t, 0, sizeof *t);
    for (int64_t r = begin, n; r < end; r += n) {
        n = k_min(k_min(BLOCK, end - r), inner - r % inner);
        const float *x = m->x + k_offset(last, m->rsize, m->rx, r / inner) + r % inner * ldx;
        add_block(m, t, n, x, ldx, m->dy ? m->dy + r * m->ldy : NULL);
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
    slices_job j = {m, part, (m->rows + slices - 1) / slices};
    slices = (m->rows + j.slice - 1) / j.slice;
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
