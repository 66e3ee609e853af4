/* op_random.c - dropout (Srivastava et al. 2014).
 *
 * Contract: y = 0 with probability p, else x / (1 - p). The mask is never stored: it is drawn again
 * for the gradient, from the same stream.
 *
 * Surprising: element i of the stream belongs to element i of y's memory, not of its logical order,
 * so the mask of a picture depends on whether it is stored channels-last. */
#include "layers.h"

typedef struct {
    k_draw draw; /* first: what varies (see the ops) */
    float p;
    int pixels; /* y is stored channels-last */
} dropout_attr;

/* in: x, packed; out: y, stored like it */
static int dropout_run(cnn_entry *e) {
    const dropout_attr *a = entry_attr(e);
    entry_kernels(e)->dropout(tensor_numel(e->out[0]), &a->draw, a->p, tensor_f32(e->in[0]),
                              tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_dropout_grad = {
    .name = "dropout_grad", .run = dropout_run, .reuses_in = 1, .varying_bytes = sizeof(k_draw)};

static int dropout_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const dropout_attr *a = entry_attr(e);
    cnn_tensor *g = as_activation(dy[0]);
    g = a->pixels ? as_dense_channels_last(g) : as_dense(g);
    if (!g) return -1;
    dx[0] =
        tape_append1(&op_dropout_grad, &g, 1, tensor_new_like(g, tensor_dtype(g)), a, sizeof *a);
    return dx[0] ? 0 : -1;
}

static const cnn_op op_dropout = {.name = "dropout",
                                  .run = dropout_run,
                                  .gradient = dropout_gradient,
                                  .reuses_in = 1,
                                  .varying_bytes = sizeof(k_draw)};

cnn_tensor *cnn_dropout(cnn_tensor *x, double p) {
    int scope = scope_begin();
    if (check_tensor("dropout", "x", x)) return scope_end(scope, 0);
    if (!(p >= 0 && p < 1))
        return scope_end(scope, fail_null("dropout: expected p from 0 to below 1, got %g", p));
    x = as_activation(x);
    if (!x || p == 0) return scope_end(scope, x);
    if (!is_packed(x)) x = as_dense(x);
    if (!x) return scope_end(scope, 0);
    uint64_t stream = rng_next_stream();
    dropout_attr a = {{cnn_seed(), stream}, (float)p, !tensor_is_dense(x)};
    cnn_tensor *y =
        tape_append1(&op_dropout, &x, 1, tensor_new_like(x, tensor_dtype(x)), &a, sizeof a);
    if (!y) cnn_set_rng_stream(stream); /* whoever asks again gets the same mask */
    return scope_end(scope, y);
}
