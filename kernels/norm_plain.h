/* norm_plain.h - batch normalization of activation matrices, in plain loops.
 *
 * Contract: k_norm and the slots in kernels.h. x has rows of ldx elements, y and dy of ldy, dx of
 * lddx. Absent (NULL) gamma and beta stand for 1 and 0; absent outputs are not wanted.
 *
 * Surprising: channels are taken in blocks of 16, a cache line, as a walk down a single column
 * would fetch every line 16 times over. */
#include "element.h"
#include "kernels.h"
#include "strided.h"

enum { BLOCK = 16, GRAIN = 1 << 14 /* elements */ };

typedef struct {
    const k_norm *s;
    const element *x, *dy;
    const float *gamma, *beta;
    const float *mean_in, *rstd_in;
    element *y, *dx;
    float *mean, *var, *dgamma, *dbeta;
    int training;
} batch_job;

static int64_t block_count(const k_norm *s) { return (s->c + BLOCK - 1) / BLOCK; }
static int64_t rows_at_once(const k_norm *s) { return k_max(1, GRAIN / k_max(s->c, 1)); }

static void stats_blocks(void *ctx, int64_t begin, int64_t end) {
    const batch_job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = b * BLOCK, width = k_min(BLOCK, s->c - first);
        double mean[BLOCK] = {0}, square[BLOCK] = {0};
        for (int64_t r = 0; r < s->rows; r++)
            for (int64_t c = 0; c < width; c++)
                mean[c] += from_element(j->x[r * s->ldx + first + c]);
        for (int64_t c = 0; c < width; c++) mean[c] /= s->rows;
        for (int64_t r = 0; r < s->rows; r++) {
            for (int64_t c = 0; c < width; c++) {
                double d = from_element(j->x[r * s->ldx + first + c]) - mean[c];
                square[c] += d * d;
            }
        }
        for (int64_t c = 0; c < width; c++) {
            j->mean[first + c] = mean[c];
            j->var[first + c] = square[c] / s->rows;
        }
    }
}

static void batch_stats(const k_norm *s, const float *x, float *mean, float *var, void *scratch) {
    (void)scratch;
    batch_job j = {.s = s, .x = elements_of(x), .mean = mean, .var = var};
    k_parallel(block_count(s), 1, stats_blocks, &j);
}

static void batch_norm_rows(void *ctx, int64_t begin, int64_t end) {
    const batch_job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < s->c; c++) {
            float scale = j->gamma ? j->gamma[c] : 1, shift = j->beta ? j->beta[c] : 0;
            float x = from_element(j->x[r * s->ldx + c]);
            float xhat = (x - j->mean_in[c]) * j->rstd_in[c];
            j->y[r * s->ldy + c] = to_element(xhat * scale + shift);
        }
    }
}

static void batch_norm(const k_norm *s, const float *x, const float *mean, const float *rstd,
                       const float *gamma, const float *beta, float *y) {
    batch_job j = {.s = s,
                   .x = elements_of(x),
                   .mean_in = mean,
                   .rstd_in = rstd,
                   .gamma = gamma,
                   .beta = beta,
                   .y = elements(y)};
    k_parallel(s->rows, rows_at_once(s), batch_norm_rows, &j);
}

/* dx = gamma rstd (dy - mean(dy) - xhat mean(dy xhat)) in training, gamma rstd dy otherwise. */
static void batch_norm_grad_blocks(void *ctx, int64_t begin, int64_t end) {
    const batch_job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = b * BLOCK, width = k_min(BLOCK, s->c - first);
        double dbeta[BLOCK] = {0}, dgamma[BLOCK] = {0};
        const float *mean = j->mean_in + first, *rstd = j->rstd_in + first;
        for (int64_t r = 0; r < s->rows; r++) {
            const element *x = j->x + r * s->ldx + first, *dy = j->dy + r * s->ldy + first;
            for (int64_t c = 0; c < width; c++) {
                double g = from_element(dy[c]);
                dbeta[c] += g;
                dgamma[c] += g * ((double)from_element(x[c]) - mean[c]) * rstd[c];
            }
        }
        for (int64_t c = 0; c < width; c++) {
            if (j->dgamma) j->dgamma[first + c] = dgamma[c];
            if (j->dbeta) j->dbeta[first + c] = dbeta[c];
        }
        if (!j->dx) continue;
        for (int64_t r = 0; r < s->rows; r++) {
            const element *x = j->x + r * s->ldx + first, *dy = j->dy + r * s->ldy + first;
            element *dx = j->dx + r * s->lddx + first;
            for (int64_t c = 0; c < width; c++) {
                double scale = (j->gamma ? j->gamma[first + c] : 1) * (double)rstd[c];
                double xhat = ((double)from_element(x[c]) - mean[c]) * rstd[c];
                double shift = j->training ? (dbeta[c] + xhat * dgamma[c]) / s->rows : 0;
                dx[c] = to_element(scale * (from_element(dy[c]) - shift));
            }
        }
    }
}

static void batch_norm_grad(const k_norm *s, const float *x, const float *dy, const float *mean,
                            const float *rstd, const float *gamma, int training, float *dx,
                            float *dgamma, float *dbeta, void *scratch) {
    (void)scratch;
    batch_job j = {.s = s,
                   .x = elements_of(x),
                   .dy = elements_of(dy),
                   .mean_in = mean,
                   .rstd_in = rstd,
                   .gamma = gamma,
                   .training = training,
                   .dx = elements(dx),
                   .dgamma = dgamma,
                   .dbeta = dbeta};
    k_parallel(block_count(s), 1, batch_norm_grad_blocks, &j);
}

static void norm_plain(k_table *t) {
    t->batch_stats = batch_stats;
    t->batch_norm = batch_norm;
    t->batch_norm_grad = batch_norm_grad;
}
