/* conv_choice.h - which method makes a convolution, and the slots of the table.
 *
 * A method is one way to make a convolution, its gradients or some of them; each tells what a shape
 * would cost it, in vector FMAs at the machine's peak (LANES multiplications and additions each),
 * or INFINITY where it cannot. The cheapest is taken: by the shape alone, so always the same.
 * k_force_conv overrules it, for tests and comparisons. Written once for every vector width. */
#ifndef CNN_CONV_CHOICE_H
#define CNN_CONV_CHOICE_H

#include "conv_tiles.h"
#include "winograd_tiles.h"

#include <string.h>

typedef struct {
    const char *(*name)(const k_conv *s, k_direction way);
    double (*cost)(const k_conv *s, k_direction way);
    int64_t (*scratch)(const k_conv *s, k_direction way);
    void (*forward)(const k_conv *s, const k_join *j, const float *x, const float *w, float *y,
                    void *scratch);
    void (*data_grad)(const k_conv *s, const float *dy, const float *w, float *dx, void *scratch);
    void (*weight_grad)(const k_conv *s, const float *x, const float *dy, float *dw, void *scratch);
} method;

/* The first is what does all that no other can. */
static const method methods[] = {
    {direct_name, direct_cost, direct_scratch, direct_forward, direct_data_grad,
     direct_weight_grad},
    {winograd_name, winograd_cost, winograd_scratch, winograd_forward, winograd_data_grad,
     winograd_weight_grad},
};
enum { METHODS = sizeof methods / sizeof *methods };

static const method *method_of(const k_conv *s, k_direction way) {
    const char *forced = k_forced_conv();
    const method *best = methods;
    double least = INFINITY;
    for (const method *m = methods; m < methods + METHODS; m++) {
        double cost = m->cost(s, way);
        if (!(cost < INFINITY)) continue;
        if (forced && strncmp(m->name(s, way), forced, strlen(forced)) == 0) return m;
        if (cost < least) best = m, least = cost;
    }
    return forced ? methods : best;
}

static const char *conv_method(const k_conv *s, k_direction way) {
    return method_of(s, way)->name(s, way);
}

static int64_t conv_scratch(const k_conv *s, k_direction way) {
    return method_of(s, way)->scratch(s, way);
}

static int64_t conv_joined_scratch(const k_conv *s, const k_join *j) {
    (void)j;
    return conv_scratch(s, K_FORWARD);
}

static void conv_joined(const k_conv *s, const k_join *j, const float *x, const float *w, float *y,
                        void *scratch) {
    method_of(s, K_FORWARD)->forward(s, j, x, w, y, scratch);
}

static void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias,
                         float *y, void *scratch) {
    conv_joined(s, &(k_join){.bias = bias}, x, w, y, scratch);
}

static void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                           void *scratch) {
    method_of(s, K_DATA_GRAD)->data_grad(s, dy, w, dx, scratch);
}

static void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                             void *scratch) {
    method_of(s, K_WEIGHT_GRAD)->weight_grad(s, x, dy, dw, scratch);
}

static void conv_choice(k_table *t) {
    t->conv_forward = conv_forward;
    t->conv_joined = conv_joined;
    t->conv_joined_scratch = conv_joined_scratch;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
    t->conv_method = conv_method;
}

#endif
