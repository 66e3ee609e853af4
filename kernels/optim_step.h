/* optim_step.h - what every variant of the optimizers shares: their arguments, and the call that
 * spreads a parameter over the threads. The file that includes it writes sgd_range and adam_range.
 *
 * Surprising: the bias corrections of adam are powers, so they are taken once, in double. */
#ifndef CNN_OPTIM_STEP_H
#define CNN_OPTIM_STEP_H

#include "kernels.h"

#include <math.h>

enum { GRAIN = 1 << 14 }; /* elements a thread takes at once */

typedef struct {
    float *p, *velocity;
    const float *g;
    float lr, momentum, decay;
    int nesterov, first;
} sgd_job;

typedef struct {
    float *p, *m, *v;
    const float *g;
    float b1, b2, eps;
    float shrink, decay; /* p is scaled by `shrink` (AdamW); g gets `decay` * p (Adam) */
    float rate, root;    /* lr / (1 - b1^step), 1 / sqrt(1 - b2^step) */
} adam_job;

static k_task sgd_range, adam_range; /* elements [begin, end) of a job */

static void sgd(int64_t n, float *p, const float *g, float *velocity, float lr, float momentum,
                float weight_decay, int nesterov, int first) {
    sgd_job j = {p,    momentum != 0 ? velocity : NULL, g, lr, momentum, weight_decay, nesterov,
                 first};
    k_parallel(n, GRAIN, sgd_range, &j);
}

static void adam(int64_t n, float *p, const float *g, float *m, float *v, float lr, float b1,
                 float b2, float eps, float weight_decay, int decoupled, int64_t step) {
    adam_job j = {.p = p,
                  .m = m,
                  .v = v,
                  .g = g,
                  .b1 = b1,
                  .b2 = b2,
                  .eps = eps,
                  .shrink = decoupled ? 1 - lr * weight_decay : 1,
                  .decay = decoupled ? 0 : weight_decay,
                  .rate = lr / (1 - pow(b1, step)),
                  .root = 1 / sqrt(1 - pow(b2, step))};
    k_parallel(n, GRAIN, adam_range, &j);
}

#endif
