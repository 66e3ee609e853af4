/* optim_simd.h - one step of an optimizer on one parameter, for AVX2 and AVX-512 alike.
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

static void sgd_range(void *ctx, int64_t begin, int64_t end) {
    const sgd_job *j = ctx;
    const vec lr = vec_set(-j->lr), momentum = vec_set(j->momentum), decay = vec_set(j->decay);
    float *const p = j->p, *const velocity = j->velocity;
    const float *const gradient = j->g;
    const int nesterov = j->nesterov, first = j->first;
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

static void adam_range(void *ctx, int64_t begin, int64_t end) {
    const adam_job *j = ctx;
    const vec b2 = vec_set(j->b2), rest1 = vec_set(1 - j->b1), rest2 = vec_set(1 - j->b2);
    const vec eps = vec_set(j->eps), shrink = vec_set(j->shrink), decay = vec_set(j->decay);
    const vec rate = vec_set(j->rate), root = vec_set(j->root);
    for (int64_t i = begin; i < end; i += LANES) {
        int64_t n = end - i;
        vec p = vec_load_upto(j->p + i, n) * shrink;
        vec g = vec_fma(decay, p, vec_load_upto(j->g + i, n));
        vec m = vec_load_upto(j->m + i, n), v = vec_load_upto(j->v + i, n);
        m = vec_fma(rest1, g - m, m);
        v = vec_fma(b2, v, rest2 * g * g);
        vec_store_upto(j->m + i, m, n);
        vec_store_upto(j->v + i, v, n);
        vec_store_upto(j->p + i, p - rate * m / vec_fma(vec_sqrt(v), root, eps), n);
    }
}

static void optim_simd(k_table *t) {
    t->sgd = sgd;
    t->adam = adam;
}

#else
static void optim_simd(k_table *t) { (void)t; }
#endif
