/* optim_generic.c - one step of an optimizer on all parameters, in place.
 *
 * Contract: kernels.h; formulas and their order are PyTorch's. The velocity u is not used where
 * momentum is 0. Memory-bound: sgd moves 12 bytes an element (20 with momentum), adam 28.
 *
 * Surprising: the first step of momentum starts from the gradient itself, not from zero times the
 * momentum, so velocity need not be cleared. */
#include "optim_step.h"

static void sgd_range(const k_part *q, const void *rule, int64_t begin, int64_t end) {
    const k_sgd *a = rule;
    for (int64_t i = begin; i < end; i++) {
        float g = q->g[i] + a->weight_decay * q->p[i];
        if (a->momentum != 0 && q->u) {
            float v = a->first ? g : a->momentum * q->u[i] + g;
            q->u[i] = v;
            g = a->nesterov ? g + a->momentum * v : v;
        }
        q->p[i] -= a->lr * g;
    }
}

static void adam_range(const k_part *q, const void *rule, int64_t begin, int64_t end) {
    const adam_rule *a = rule;
    for (int64_t i = begin; i < end; i++) {
        float p = q->p[i] * a->shrink;
        float g = q->g[i] + a->decay * p;
        float m = q->u[i] = q->u[i] + (1 - a->b1) * (g - q->u[i]);
        float v = q->v[i] = a->b2 * q->v[i] + (1 - a->b2) * g * g;
        q->p[i] = p - a->rate * m / (sqrtf(v) * a->root + a->eps);
    }
}

void k_optim_generic(k_table *t) {
    t->sgd = sgd;
    t->adam = adam;
}
