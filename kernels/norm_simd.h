/* norm_simd.h - batch normalization for AVX2 and AVX-512 alike; group norm stays plain.
 *
 * Bytes an element: statistics 4, forward 8, backward 20 (x and dy are read twice, dx written).
 *
 * Surprising: the second pass of the backward runs from the last row to the first, as the rows that
 * the first pass read last are the ones still in the cache. */
#include "columns_simd.h"

#if K_SIMD

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements a thread takes at once */

static int64_t rows_at_once(int64_t columns) { return k_max(1, GRAIN / k_max(columns, 1)); }

/* Large dense outputs are streamed: simd.h. */
static int is_streamed(const k_norm *s, int64_t ld, const float *y) {
    return s->rows * s->c >= K_STREAM_FLOATS && ld == s->c && s->c % LANES == 0 && vec_aligned(y);
}

static void vec_put(float *p, vec x, int64_t n, int stream) {
    if (stream)
        vec_stream(p, x);
    else
        vec_store_upto(p, x, n);
}

/* ------------------------------------------------------------------------------------- statistics
 */

static panel panel_of(const k_norm *s, const float *x, enum fold fold, int64_t first) {
    return (panel){.fold = fold,
                   .x = x + first,
                   .columns = k_min(COLUMNS, s->c - first),
                   .rows = s->rows,
                   .nr = 1,
                   .rsize = &s->rows,
                   .rx = &s->ldx};
}

static void batch_stats(const k_norm *s, const float *x, float *mean, float *var) {
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

/* ---------------------------------------------------------------------------------------- forward
 */

typedef struct {
    const k_norm *s;
    const float *x, *mean, *rstd, *gamma, *beta;
    float *y;
    int stream;
} forward_job;

static void forward_rows(void *ctx, int64_t begin, int64_t end) {
    const forward_job *j = ctx;
    const int64_t columns = j->s->c;
    const float *gamma = j->gamma, *beta = j->beta, *mean = j->mean, *rstd = j->rstd;
    const int stream = j->stream;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->s->ldx;
        float *y = j->y + r * j->s->ldy;
        for (int64_t c = 0; c < columns; c += LANES) {
            int64_t n = columns - c;
            vec scale = vec_load_upto(rstd + c, n), shift = vec_set(0);
            if (gamma) scale = scale * vec_load_upto(gamma + c, n);
            if (beta) shift = vec_load_upto(beta + c, n);
            vec d = vec_load_upto(x + c, n) - vec_load_upto(mean + c, n);
            vec_put(y + c, vec_fma(d, scale, shift), n, stream);
        }
    }
    if (stream) vec_stream_end();
}

static void batch_norm(const k_norm *s, const float *x, const float *mean, const float *rstd,
                       const float *gamma, const float *beta, float *y) {
    forward_job j = {s, x, mean, rstd, gamma, beta, y, is_streamed(s, s->ldy, y)};
    k_parallel(s->rows, rows_at_once(s->c), forward_rows, &j);
}

/* --------------------------------------------------------------------------------------- backward
 * dx = scale (dy - dbeta / rows - (x - mean) slope), scale = gamma rstd, slope = rstd dgamma /
 * rows; with the statistics fixed (no training) dx = scale dy. */

typedef struct {
    const k_norm *s;
    int64_t columns;
    const float *x, *dy, *mean;
    float *dx, scale[COLUMNS], shift[COLUMNS], slope[COLUMNS];
    int training, stream;
} backward_job;

static void backward_rows(void *ctx, int64_t begin, int64_t end) {
    const backward_job *j = ctx;
    const int64_t columns = j->columns;
    const float *mean = j->mean;
    const int stream = j->stream, training = j->training;
    for (int64_t i = begin; i < end; i++) {
        int64_t r = j->s->rows - 1 - i;
        const float *x = j->x + r * j->s->ldx, *dy = j->dy + r * j->s->ldy;
        float *dx = j->dx + r * j->s->ldx;
        for (int64_t c = 0; c < columns; c += LANES) {
            int64_t n = columns - c;
            vec g = vec_load_upto(dy + c, n);
            if (training) {
                vec d = vec_load_upto(x + c, n) - vec_load_upto(mean + c, n);
                g = g - vec_fma(d, vec_load(j->slope + c), vec_load(j->shift + c));
            }
            vec_put(dx + c, g * vec_load(j->scale + c), n, stream);
        }
    }
    if (stream) vec_stream_end();
}

static void batch_norm_grad(const k_norm *s, const float *x, const float *dy, const float *mean,
                            const float *rstd, const float *gamma, int training, float *dx,
                            float *dgamma, float *dbeta) {
    totals part[SLICES];
    for (int64_t first = 0; first < s->c; first += COLUMNS) {
        panel m = panel_of(s, x, DOT, first);
        m.dy = dy + first;
        m.ldy = s->ldy;
        m.shift = mean + first;
        backward_job j = {.s = s, .columns = m.columns, .training = training};
        if (training || dgamma || dbeta) add_panel(&m, part);
        for (int64_t c = 0; c < m.columns; c++) {
            double scale = rstd[first + c];
            j.scale[c] = gamma ? gamma[first + c] * scale : scale;
            if (dgamma) dgamma[first + c] = part->q[c] * scale;
            if (dbeta) dbeta[first + c] = part->s[c];
            if (!training) continue;
            j.shift[c] = part->s[c] / s->rows;
            j.slope[c] = part->q[c] * scale * scale / s->rows;
        }
        if (!dx) continue;
        j.x = m.x;
        j.dy = m.dy;
        j.mean = m.shift;
        j.dx = dx + first;
        j.stream = is_streamed(s, s->ldx, dx);
        k_parallel(s->rows, rows_at_once(m.columns), backward_rows, &j);
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
