/* optim_generic.c - one step of an optimizer on one parameter, in place.
 *
 * Contract: kernels.h; formulas and their order are PyTorch's. velocity is NULL where momentum is
 * 0. Memory-bound: sgd moves 12 bytes an element (20 with momentum), adam 28.
 *
 * Surprising: the first step of momentum starts from the gradient itself, not from zero times the
 * momentum, so velocity need not be cleared. */
#include "optim_step.h"

static void sgd_range(void *ctx, int64_t begin, int64_t end) {
    const sgd_job *j = ctx;
    for (int64_t i = begin; i < end; i++) {
        float g = j->g[i] + j->decay * j->p[i];
        if (j->velocity) {
            float v = j->first ? g : j->momentum * j->velocity[i] + g;
            j->velocity[i] = v;
            g = j->nesterov ? g + j->momentum * v : v;
        }
        j->p[i] -= j->lr * g;
    }
}

static void adam_range(void *ctx, int64_t begin, int64_t end) {
    const adam_job *j = ctx;
    for (int64_t i = begin; i < end; i++) {
        float p = j->p[i] * j->shrink;
        float g = j->g[i] + j->decay * p;
        float m = j->m[i] = j->m[i] + (1 - j->b1) * (g - j->m[i]);
        float v = j->v[i] = j->b2 * j->v[i] + (1 - j->b2) * g * g;
        j->p[i] = p - j->rate * m / (sqrtf(v) * j->root + j->eps);
    }
}

void k_optim_generic(k_table *t) {
    t->sgd = sgd;
    t->adam = adam;
}
