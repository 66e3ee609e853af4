/* loss_generic.c - softmax, its logarithm and cross entropy over the rows of a dense matrix.
 *
 * Contract: kernels.h. Labels count from 0 and lie in range; the loss is the mean over the rows.
 *
 * Surprising: the mean over no rows is 0 / 0, so an empty batch has loss NaN, as in PyTorch. */
#include "kernels.h"
#include "strided.h"

#include <math.h>

enum { GRAIN = 1 << 12 }; /* elements a thread takes at once */

typedef struct {
    int64_t rows, c;
    const float *x, *y, *dy;
    const int32_t *label;
    float *out;
} job;

static void run_rows(job *j, k_task *fn) {
    k_parallel(j->rows, k_max(1, GRAIN / k_max(j->c, 1)), fn, j);
}

static double row_max(int64_t c, const float *x) {
    double m = -INFINITY;
    for (int64_t i = 0; i < c; i++) m = x[i] > m || isnan(x[i]) ? x[i] : m;
    return m;
}

static void softmax_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->c;
        float *y = j->out + r * j->c;
        double m = row_max(j->c, x), sum = 0;
        for (int64_t i = 0; i < j->c; i++) sum += exp(x[i] - m);
        for (int64_t i = 0; i < j->c; i++) y[i] = exp(x[i] - m) / sum;
    }
}

static void log_softmax_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *x = j->x + r * j->c;
        float *y = j->out + r * j->c;
        double m = row_max(j->c, x), sum = 0;
        for (int64_t i = 0; i < j->c; i++) sum += exp(x[i] - m);
        for (int64_t i = 0; i < j->c; i++) y[i] = x[i] - m - log(sum);
    }
}

/* dx = y (dy - sum(dy y)) */
static void softmax_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *y = j->y + r * j->c, *dy = j->dy + r * j->c;
        float *dx = j->out + r * j->c;
        double dot = 0;
        for (int64_t i = 0; i < j->c; i++) dot += (double)dy[i] * y[i];
        for (int64_t i = 0; i < j->c; i++) dx[i] = y[i] * (dy[i] - dot);
    }
}

/* dx = dy - e^y sum(dy) */
static void log_softmax_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    for (int64_t r = begin; r < end; r++) {
        const float *y = j->y + r * j->c, *dy = j->dy + r * j->c;
        float *dx = j->out + r * j->c;
        double sum = 0;
        for (int64_t i = 0; i < j->c; i++) sum += dy[i];
        for (int64_t i = 0; i < j->c; i++) dx[i] = dy[i] - exp(y[i]) * sum;
    }
}

/* dx = (e^logp - onehot) dloss / rows; `dy` is dloss, one number. */
static void cross_entropy_grad_rows(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    double scale = (double)j->dy[0] / j->rows;
    for (int64_t r = begin; r < end; r++)
        for (int64_t i = 0; i < j->c; i++)
            j->out[r * j->c + i] = (exp(j->y[r * j->c + i]) - (i == j->label[r])) * scale;
}

static void softmax(int64_t rows, int64_t c, const float *x, float *y) {
    job j = {.rows = rows, .c = c, .x = x, .out = y};
    run_rows(&j, softmax_rows);
}

static void log_softmax(int64_t rows, int64_t c, const float *x, float *y) {
    job j = {.rows = rows, .c = c, .x = x, .out = y};
    run_rows(&j, log_softmax_rows);
}

static void softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    job j = {.rows = rows, .c = c, .y = y, .dy = dy, .out = dx};
    run_rows(&j, softmax_grad_rows);
}

static void log_softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    job j = {.rows = rows, .c = c, .y = y, .dy = dy, .out = dx};
    run_rows(&j, log_softmax_grad_rows);
}

static void cross_entropy(int64_t rows, int64_t c, const float *x, const int32_t *label,
                          float *logp, float *loss) {
    log_softmax(rows, c, x, logp);
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) sum -= logp[r * c + label[r]];
    *loss = sum / rows;
}

static void cross_entropy_grad(int64_t rows, int64_t c, const float *logp, const int32_t *label,
                               const float *dloss, float *dx) {
    job j = {.rows = rows, .c = c, .y = logp, .dy = dloss, .label = label, .out = dx};
    run_rows(&j, cross_entropy_grad_rows);
}

void k_loss_generic(k_table *t) {
    t->softmax = softmax;
    t->log_softmax = log_softmax;
    t->softmax_grad = softmax_grad;
    t->log_softmax_grad = log_softmax_grad;
    t->cross_entropy = cross_entropy;
    t->cross_entropy_grad = cross_entropy_grad;
}
