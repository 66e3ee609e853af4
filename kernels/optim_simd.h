/* optim_simd.h - one step of an optimizer on all parameters, for AVX2 and AVX-512 alike.
 *
 * The formulas of optim_generic.c over vectors. Memory-bound: sgd moves 12 bytes an element (20
 * with momentum), adam 28.
 *
 * Surprising: the arrays end in a vector of their own, of which only the first lanes are stored:
 * what a formula makes of the zeros in the others does not matter. */
#include "kernels.h"
#include "simd.h"

#if K_SIMD

#include "optim_step.h"

static void sgd_range(const k_part *q, const void *rule, int64_t begin, int64_t end) {
    const k_sgd *a = rule;
    const vec lr = vec_set(-a->lr), momentum = vec_set(a->momentum);
    const vec decay = vec_set(a->weight_decay);
    float *const p = q->p, *const velocity = a->momentum != 0 ? q->u : NULL;
    const float *const gradient = q->g;
    const int nesterov = a->nesterov, first = a->first;
    for (int64_t i = begin; i < end; i += LANES) {
        int64_t n = end - i;
        vec x = vec_load_upto(p + i, n), g = vec_fma(decay, x, vec_load_upto(gradient + i, n));
        if (velocity) {
            vec v = first ? g : vec_fma(momentum, vec_load_upto(velocity + i, n), g);
            vec_store_upto(velocity + i, v, n);
            g = nesterov ? vec_fma(momentum, v, g) : v;
        }
        vec_store_upto(p + i, vec_fma(lr, g, x), n);
    }
}

static void adam_range(const k_part *q, const void *rule, int64_t begin, int64_t end) {
    const adam_rule *a = rule;
    const vec b2 = vec_set(a->b2), rest1 = vec_set(1 - a->b1), rest2 = vec_set(1 - a->b2);
    const vec eps = vec_set(a->eps), shrink = vec_set(a->shrink), decay = vec_set(a->decay);
    const vec rate = vec_set(a->rate), root = vec_set(a->root);
    float *const to_p = q->p, *const to_m = q->u, *const to_v = q->v;
    const float *const gradient = q->g;
    for (int64_t i = begin; i < end; i += LANES) {
        int64_t n = end - i;
        vec p = vec_load_upto(to_p + i, n) * shrink;
        vec g = vec_fma(decay, p, vec_load_upto(gradient + i, n));
        vec m = vec_load_upto(to_m + i, n), v = vec_load_upto(to_v + i, n);
        m = vec_fma(rest1, g - m, m);
        v = vec_fma(b2, v, rest2 * g * g);
        vec_store_upto(to_m + i, m, n);
        vec_store_upto(to_v + i, v, n);
        vec_store_upto(to_p + i, p - rate * m / vec_fma(vec_sqrt(v), root, eps), n);
    }
}

static void optim_simd(k_table *t) {
    t->sgd = sgd;
    t->adam = adam;
}

#else
static void optim_simd(k_table *t) { (void)t; }
#endif
