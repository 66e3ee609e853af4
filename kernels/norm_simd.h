/* norm_simd.h - batch normalization for AVX2 and AVX-512 alike; group norm stays plain.
 *
 * Bytes an element: statistics 4, forward 8, backward 20 (x and dy are read twice, dx written).
 *
 * Surprising: the second pass of the backward takes the last rows first, as those that the first
 * pass read last are still in the cache. */
#include "columns_simd.h"

#if K_SIMD

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements a thread takes at once */

static int64_t rows_at_once(int64_t columns) { return k_max(1, GRAIN / k_max(columns, 1)); }

static void put(element *p, vec x, int64_t n, int streams) {
    if (streams)
        stream(p, x);
    else
        store_upto(p, x, n);
}

/* ----------------------------------------------------------------------------------- statistics */

static panel panel_of(const k_norm *s, const float *x, enum fold fold, int64_t first) {
    return (panel){.fold = fold,
                   .x = elements_of(x) + first,
                   .columns = k_min(COLUMNS, s->c - first),
                   .rows = s->rows,
                   .nr = 1,
                   .rsize = &s->rows,
                   .rx = &s->ldx};
}

static void batch_stats(const k_norm *s, const float *x, float *mean, float *var, void *scratch) {
    (void)scratch;
    totals part[SLICES];
    for (int64_t first = 0; first < s->c; first += COLUMNS) {
        panel m = panel_of(s, x, MOMENTS, first);
        add_panel(&m, part);
        for (int64_t c = 0; c < m.columns; c++) {
            mean[first + c] = s->rows ? part->s[c] : NAN;
            var[first + c] = part->q[c] / s->rows;
        }
    }
}

/* ------------------------------------------------------------------------ forward and gradient
 * y = scale (x - mean) + shift, dx = scale (dy - shift - slope (x - mean)), a panel of columns at a
 * time. shift is beta, or the mean of dy; the coefficients are worked out once for a panel. */

typedef struct {
    int64_t columns, joined;    /* of the panel; rows that are worked on as one */
    int64_t rows, ldx, ldy, ld; /* ld: of the output */
    const element *x, *dy;
    element *y;
    int streams;
    float mean[COLUMNS], scale[COLUMNS], shift[COLUMNS], slope[COLUMNS];
} rows_job;

enum pass { FORWARD, BACKWARD, BACKWARD_FIXED }; /* fixed: the statistics are constants */

/* One row of n numbers; coefficients repeat after joined * columns of them. */
__attribute__((always_inline)) static inline void norm_row(enum pass pass, const rows_job *j,
                                                           int64_t r, int64_t columns) {
    const element *x = j->x + r * j->ldx, *dy = j->dy + r * j->ldy;
    element *y = j->y + r * j->ld;
    const int streams = j->streams;
    for (int64_t c = 0; c < columns; c += LANES) {
        const int64_t n = columns - c;
        const vec scale = vec_load(j->scale + c);
        vec value;
        if (pass == BACKWARD_FIXED) {
            value = load_upto(dy + c, n) * scale;
        } else {
            vec d = load_upto(x + c, n) - vec_load(j->mean + c), shift = vec_load(j->shift + c);
            if (pass == FORWARD)
                value = vec_fma(d, scale, shift);
            else
                value = (load_upto(dy + c, n) - vec_fma(d, vec_load(j->slope + c), shift)) * scale;
        }
        put(y + c, value, n, streams);
    }
}

/* Joined rows [begin, end); the gradient's chunks lie in reverse order, each of them still upward.
 */
__attribute__((always_inline)) static inline void norm_rows(enum pass pass, const rows_job *j,
                                                            int64_t begin, int64_t end) {
    const int64_t count = (j->rows + j->joined - 1) / j->joined;
    int64_t first = (pass == FORWARD ? begin : count - end) * j->joined;
    for (int64_t i = begin; i < end; i++, first += j->joined)
        norm_row(pass, j, first, k_min(j->joined, j->rows - first) * j->columns);
    if (j->streams) vec_stream_end();
}

static void forward_rows(void *ctx, int64_t begin, int64_t end) {
    norm_rows(FORWARD, ctx, begin, end);
}
static void backward_rows(void *ctx, int64_t begin, int64_t end) {
    norm_rows(BACKWARD, ctx, begin, end);
}
static void backward_fixed_rows(void *ctx, int64_t begin, int64_t end) {
    norm_rows(BACKWARD_FIXED, ctx, begin, end);
}

/* Repeats the coefficients for rows that are joined, and runs. */
static void run_rows(rows_job *j, k_task *fn) {
    const int dense = j->ldx == j->columns && j->ldy == j->columns && j->ld == j->columns;
    j->joined = dense ? rows_filling_vectors(j->columns) : 1;
    for (int64_t c = j->columns; c < j->joined * j->columns; c++) {
        j->mean[c] = j->mean[c - j->columns];
        j->scale[c] = j->scale[c - j->columns];
        j->shift[c] = j->shift[c - j->columns];
        j->slope[c] = j->slope[c - j->columns];
    }
    j->streams = j->rows * j->columns * (int64_t)sizeof *j->y >= K_STREAM_BYTES &&
                 j->ld % LANES == 0 && j->columns % LANES == 0 && can_stream(j->y);
    k_parallel((j->rows + j->joined - 1) / j->joined, rows_at_once(j->joined * j->columns), fn, j);
}

static void batch_norm(const k_norm *s, const float *x, const float *mean, const float *rstd,
                       const float *gamma, const float *beta, float *y) {
    for (int64_t first = 0; first < s->c; first += COLUMNS) {
        rows_job j = {.columns = k_min(COLUMNS, s->c - first),
                      .rows = s->rows,
                      .ldx = s->ldx,
                      .ldy = s->ldx,
                      .ld = s->ldy,
                      .x = elements_of(x) + first,
                      .dy = elements_of(x) + first,
                      .y = elements(y) + first};
        for (int64_t c = 0; c < j.columns; c++) {
            j.mean[c] = mean[first + c];
            j.scale[c] = gamma ? gamma[first + c] * rstd[first + c] : rstd[first + c];
            j.shift[c] = beta ? beta[first + c] : 0;
        }
        run_rows(&j, forward_rows);
    }
}

static void batch_norm_grad(const k_norm *s, const float *x, const float *dy, const float *mean,
                            const float *rstd, const float *gamma, int training, float *dx,
                            float *dgamma, float *dbeta, void *scratch) {
    (void)scratch;
    totals part[SLICES];
    for (int64_t first = 0; first < s->c; first += COLUMNS) {
        panel m = panel_of(s, x, DOT, first);
        m.dy = elements_of(dy) + first;
        m.ldy = s->ldy;
        m.shift = mean + first;
        if (training || dgamma || dbeta) add_panel(&m, part);
        rows_job j = {.columns = m.columns,
                      .rows = s->rows,
                      .ldx = s->ldx,
                      .ldy = s->ldy,
                      .ld = s->lddx,
                      .x = m.x,
                      .dy = m.dy};
        for (int64_t c = 0; c < m.columns; c++) {
            double scale = rstd[first + c];
            j.mean[c] = mean[first + c];
            j.scale[c] = gamma ? gamma[first + c] * scale : scale;
            if (dgamma) dgamma[first + c] = part->q[c] * scale;
            if (dbeta) dbeta[first + c] = part->s[c];
            if (!training) continue;
            j.shift[c] = part->s[c] / s->rows;
            j.slope[c] = part->q[c] * scale * scale / s->rows;
        }
        if (!dx) continue;
        j.y = elements(dx) + first;
        run_rows(&j, training ? backward_rows : backward_fixed_rows);
    }
}

static void norm_simd(k_table *t) {
    t->batch_stats = batch_stats;
    t->batch_norm = batch_norm;
    t->batch_norm_grad = batch_norm_grad;
}

#else
static void norm_simd(k_table *t) { (void)t; }
#endif
