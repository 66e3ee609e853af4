/* optim_cuda.cu - one step of an optimizer on all parameters of a net, in place.
 *
 * Contract: optim_generic.c, its formulas. A launch takes up to 88 parameters (parts_cuda.h), so
 * that a step of most nets is one or two of them. Learning rate and step number may change from one
 * run of a recorded step to the next (k_live).
 *
 * Memory-bound: sgd moves 12 bytes an element (20 with momentum), adam 28, 16 bytes an access.
 *
 * Surprising: when the step number comes from the card's memory, each block takes adam's powers
 * anew, in double: some 400 instructions of one thread beside the 4096 elements of the block. */
#include "parts_cuda.h"

enum { THREADS = 256, PARTS = 88 /* that fit in a launch's arguments */ };

typedef k_parts<k_part, PARTS> batch;
static_assert(sizeof(batch) + sizeof(k_adam) + 2 * sizeof(void *) <= 4096, "see PARTS");

/* ----------------------------------------------------------------------------------- the formulas
 * A rule is what a formula takes from the optimizer's settings; step changes elements i .. i + 3.
 */

struct sgd_rule {
    k_sgd a;
};

static __host__ __device__ sgd_rule rule_of(const k_sgd &a) { return {a}; }

static __device__ void step(const sgd_rule &rule, const k_part &q, int64_t i, int aligned) {
    const k_sgd &a = rule.a;
    k_four p = k_four_load(q.p, i, q.n, aligned), g = k_four_load(q.g, i, q.n, aligned);
    for (int k = 0; k < 4; k++) g.v[k] += a.weight_decay * p.v[k];
    if (a.momentum != 0 && q.u) {
        k_four u = g;
        if (!a.first) {
            u = k_four_load(q.u, i, q.n, aligned);
            for (int k = 0; k < 4; k++) u.v[k] = a.momentum * u.v[k] + g.v[k];
        }
        k_four_store(q.u, i, q.n, aligned, u);
        for (int k = 0; k < 4; k++) g.v[k] = a.nesterov ? g.v[k] + a.momentum * u.v[k] : u.v[k];
    }
    for (int k = 0; k < 4; k++) p.v[k] -= a.lr * g.v[k];
    k_four_store(q.p, i, q.n, aligned, p);
}

struct adam_rule {
    float b1, b2, eps;
    float shrink, decay; /* p is scaled by `shrink` (AdamW); g gets `decay` * p (Adam) */
    float rate, root;    /* lr / (1 - b1^step), 1 / sqrt(1 - b2^step) */
};

static __host__ __device__ adam_rule rule_of(const k_adam &a) {
    double steps = (double)a.step;
    return {a.b1,
            a.b2,
            a.eps,
            a.decoupled ? 1 - a.lr * a.weight_decay : 1,
            a.decoupled ? 0 : a.weight_decay,
            (float)(a.lr / (1 - pow((double)a.b1, steps))),
            (float)(1 / sqrt(1 - pow((double)a.b2, steps)))};
}

static __device__ void step(const adam_rule &a, const k_part &q, int64_t i, int aligned) {
    k_four p = k_four_load(q.p, i, q.n, aligned), g = k_four_load(q.g, i, q.n, aligned);
    k_four m = k_four_load(q.u, i, q.n, aligned), v = k_four_load(q.v, i, q.n, aligned);
    for (int k = 0; k < 4; k++) {
        p.v[k] *= a.shrink;
        g.v[k] += a.decay * p.v[k];
        m.v[k] += (1 - a.b1) * (g.v[k] - m.v[k]);
        v.v[k] = a.b2 * v.v[k] + (1 - a.b2) * g.v[k] * g.v[k];
        p.v[k] -= a.rate * m.v[k] / (sqrtf(v.v[k]) * a.root + a.eps);
    }
    k_four_store(q.u, i, q.n, aligned, m);
    k_four_store(q.v, i, q.n, aligned, v);
    k_four_store(q.p, i, q.n, aligned, p);
}

/* ------------------------------------------------------------------------------------- the launch
 */

template <class R, class A> __global__ void step_kernel(batch b, R given, const A *live) {
    __shared__ R changed;
    if (live && !threadIdx.x) changed = rule_of(*live);
    __syncthreads();
    const R rule = live ? changed : given;
    const k_piece<k_part> q = k_piece_of(b);
    const int aligned = k_aligned_to(16, q.part.p, q.part.g, q.part.u, q.part.v);
    for (int64_t i = q.begin + 4 * threadIdx.x; i < q.end; i += 4 * THREADS)
        step(rule, q.part, i, aligned);
}

template <class A> static void step_all(int64_t parts, const k_part *part, const A *a) {
    const auto rule = rule_of(*a);
    k_for_parts<PARTS>(parts, part, [&](const batch &b, unsigned blocks) {
        auto kernel = step_kernel<decltype(rule_of(*a)), A>;
        K_LAUNCH(kernel, blocks, THREADS, b, rule, (const A *)k_live());
    });
}

static void sgd(int64_t parts, const k_part *part, const k_sgd *a) { step_all(parts, part, a); }
static void adam(int64_t parts, const k_part *part, const k_adam *a) { step_all(parts, part, a); }

extern "C" void k_optim_cuda(k_table *t) {
    t->sgd = sgd;
    t->adam = adam;
}
