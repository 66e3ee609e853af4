/* optim_step.h - what every variant of the optimizers shares: their rules, and the call that
 * spreads all parameters over the threads. The file that includes it writes sgd_range and
 * adam_range.
 *
 * The parameters lie one behind the other in one range of elements, each from a whole cache line
 * on, and the threads take equal pieces of that: a hundred small ones cost one loop, not a hundred.
 *
 * Surprising: the bias corrections of adam are powers, so they are taken once, in double. */
#ifndef CNN_OPTIM_STEP_H
#define CNN_OPTIM_STEP_H

#include "kernels.h"
#include "strided.h"

#include <math.h>

enum { GRAIN = 1 << 14 /* elements a thread takes at once */, LINE = 16 /* floats */ };

typedef struct {
    float b1, b2, eps;
    float shrink, decay; /* p is scaled by `shrink` (AdamW); g gets `decay` * p (Adam) */
    float rate, root;    /* lr / (1 - b1^step), 1 / sqrt(1 - b2^step) */
} adam_rule;

/* Elements [begin, end) of a parameter; `rule` is a k_sgd or an adam_rule. */
typedef void step_range(const k_part *q, const void *rule, int64_t begin, int64_t end);
static step_range sgd_range, adam_range;

typedef struct {
    int64_t parts;
    const k_part *part;
    step_range *step;
    const void *rule;
} step_job;

static int64_t whole_lines(int64_t n) { return (n + LINE - 1) / LINE * LINE; }

static void all_range(void *ctx, int64_t begin, int64_t end) {
    const step_job *j = ctx;
    int64_t start = 0; /* of the parameter */
    for (int64_t i = 0; i < j->parts && start < end; i++) {
        const k_part *q = &j->part[i];
        int64_t from = k_max(begin - start, 0), to = k_min(end - start, q->n);
        if (from < to) j->step(q, j->rule, from, to);
        start += whole_lines(q->n);
    }
}

static void step_all(int64_t parts, const k_part *part, step_range *step, const void *rule) {
    step_job j = {parts, part, step, rule};
    int64_t n = 0;
    for (int64_t i = 0; i < parts; i++) n += whole_lines(part[i].n);
    k_parallel(n, GRAIN, all_range, &j);
}

static void sgd(int64_t parts, const k_part *part, const k_sgd *a) {
    step_all(parts, part, sgd_range, a);
}

static void adam(int64_t parts, const k_part *part, const k_adam *a) {
    adam_rule rule = {.b1 = a->b1,
                      .b2 = a->b2,
                      .eps = a->eps,
                      .shrink = a->decoupled ? 1 - a->lr * a->weight_decay : 1,
                      .decay = a->decoupled ? 0 : a->weight_decay,
                      .rate = a->lr / (1 - pow(a->b1, a->step)),
                      .root = 1 / sqrt(1 - pow(a->b2, a->step))};
    step_all(parts, part, adam_range, &rule);
}

#endif
