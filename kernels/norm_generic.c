/* norm_generic.c - batch and group normalization, forward and backward, of activation matrices;
 * norm_plain.h has the loops of batch norm.
 *
 * Contract: k_norm and the slots in kernels.h. x has rows of ldx floats, y and dy of ldy, dx of
 * lddx. Absent (NULL) gamma and beta stand for 1 and 0; absent outputs are not wanted.
 *
 * Surprising: group norm, which no net of ours is made of, is plain in every variant, and float32
 * in both tables. */
#include "norm_plain.h"

#include <math.h>

typedef struct {
    const k_norm *s;
    const float *x, *dy, *gamma, *beta;
    const float *mean_in, *rstd_in;
    float *y, *mean, *rstd;
    float *dx, *dgamma, *dbeta;
    float eps;
} job;

/* The elements of group i, counted over samples and groups: row r, channel c of the matrix. */
#define FOR_GROUP(s, i, r, c)                                                                      \
    for (int64_t r = (i) / (s)->groups * (s)->pixels, r_end = r + (s)->pixels; r < r_end; r++)     \
        for (int64_t c = (i) % (s)->groups * ((s)->c / (s)->groups),                               \
                     c_end = c + (s)->c / (s)->groups;                                             \
             c < c_end; c++)

static int64_t group_count(const k_norm *s) { return s->rows / s->pixels * s->groups; }
static int64_t group_size(const k_norm *s) { return s->pixels * (s->c / s->groups); }
static int64_t groups_at_once(const k_norm *s) { return k_max(1, GRAIN / group_size(s)); }

static void group_norm_groups(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t i = begin; i < end; i++) {
        double mean = 0, square = 0, size = group_size(s);
        FOR_GROUP(s, i, r, c) mean += j->x[r * s->ldx + c];
        mean /= size;
        FOR_GROUP(s, i, r, c) {
            double d = j->x[r * s->ldx + c] - mean;
            square += d * d;
        }
        double rstd = 1 / sqrt(square / size + j->eps);
        FOR_GROUP(s, i, r, c) {
            double xhat = (j->x[r * s->ldx + c] - mean) * rstd;
            j->y[r * s->ldy + c] = xhat * (j->gamma ? j->gamma[c] : 1) + (j->beta ? j->beta[c] : 0);
        }
        j->mean[i] = mean;
        j->rstd[i] = rstd;
    }
}

static void group_norm(const k_norm *s, const float *x, const float *gamma, const float *beta,
                       float eps, float *y, float *mean, float *rstd) {
    if (!group_size(s)) return;
    job j = {.s = s,
             .x = x,
             .gamma = gamma,
             .beta = beta,
             .eps = eps,
             .y = y,
             .mean = mean,
             .rstd = rstd};
    k_parallel(group_count(s), groups_at_once(s), group_norm_groups, &j);
}

/* With g = dy gamma: dx = rstd (g - mean(g) - xhat mean(g xhat)), means over the group. */
static void group_norm_dx(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t i = begin; i < end; i++) {
        double mean = j->mean_in[i], rstd = j->rstd_in[i], sum = 0, dot = 0, size = group_size(s);
        FOR_GROUP(s, i, r, c) {
            double g = (double)j->dy[r * s->ldy + c] * (j->gamma ? j->gamma[c] : 1);
            sum += g;
            dot += g * (j->x[r * s->ldx + c] - mean) * rstd;
        }
        FOR_GROUP(s, i, r, c) {
            double g = (double)j->dy[r * s->ldy + c] * (j->gamma ? j->gamma[c] : 1);
            double xhat = (j->x[r * s->ldx + c] - mean) * rstd;
            j->dx[r * s->lddx + c] = rstd * (g - sum / size - xhat * dot / size);
        }
    }
}

static void group_norm_dgamma_blocks(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_norm *s = j->s;
    for (int64_t b = begin; b < end; b++) {
        int64_t first = b * BLOCK, width = k_min(BLOCK, s->c - first);
        double dgamma[BLOCK] = {0}, dbeta[BLOCK] = {0};
        for (int64_t r = 0; r < s->rows; r++) {
            for (int64_t c = 0; c < width; c++) {
                int64_t group = (first + c) / (s->c / s->groups);
                int64_t i = r / s->pixels * s->groups + group;
                double dy = j->dy[r * s->ldy + first + c];
                dbeta[c] += dy;
                dgamma[c] +=
                    dy * (j->x[r * s->ldx + first + c] - (double)j->mean_in[i]) * j->rstd_in[i];
            }
        }
        for (int64_t c = 0; c < width; c++) {
            if (j->dgamma) j->dgamma[first + c] = dgamma[c];
            if (j->dbeta) j->dbeta[first + c] = dbeta[c];
        }
    }
}

static void group_norm_grad(const k_norm *s, const float *x, const float *dy, const float *mean,
                            const float *rstd, const float *gamma, float *dx, float *dgamma,
                            float *dbeta, void *scratch) {
    (void)scratch;
    job j = {.s = s,
             .x = x,
             .dy = dy,
             .mean_in = mean,
             .rstd_in = rstd,
             .gamma = gamma,
             .dx = dx,
             .dgamma = dgamma,
             .dbeta = dbeta};
    if (dx && group_size(s)) k_parallel(group_count(s), groups_at_once(s), group_norm_dx, &j);
    if (dgamma || dbeta) k_parallel(block_count(s), 1, group_norm_dgamma_blocks, &j);
}

/* The sums above are kept on the stack. */
static int64_t norm_scratch(const k_norm *s) {
    (void)s;
    return 0;
}

/* -------------------------------------------------------------------- the statistics' small ops */

static void rstd(int64_t n, const float *var, float eps, float *y) {
    for (int64_t i = 0; i < n; i++) {
        float v = var[i] + eps;
        y[i] = sqrtf(v) / v;
    }
}

static void running(int64_t n, float keep, float take, const float *x, int64_t stride, float *y) {
    for (int64_t i = 0; i < n; i++) {
        float part = take * x[i], old = keep * y[i * stride];
        y[i * stride] = old + part;
    }
}

void k_norm_generic(k_table *t) {
    norm_plain(t);
    t->group_norm = group_norm;
    t->group_norm_grad = group_norm_grad;
    t->norm_scratch = norm_scratch;
    t->rstd = rstd;
    t->running = running;
}
