/* op_loss.c - softmax, its logarithm, cross entropy and the mean squared error.
 *
 * Contract: the kernels take dense rows; any other axis is brought last and back.
 *
 * Surprising: cross entropy keeps log softmax for its gradient, not x. The labels are checked when
 * they have values: at the call, or when a recorded step runs. */
#include "layers.h"

/* ------------------------------------------------------------------------------------- softmax */

static int64_t columns(const cnn_tensor *x) { return x->size[x->nd - 1]; }

static int64_t row_count(const cnn_tensor *x) {
    int64_t c = columns(x);
    return c ? tensor_numel(x) / c : 0;
}

/* in: y, dy; out: dx */
static int softmax_grad_run(cnn_entry *e) {
    const cnn_tensor *y = e->in[0];
    entry_kernels(e)->softmax_grad(row_count(y), columns(y), tensor_f32(y), tensor_f32(e->in[1]),
                                   tensor_f32(e->out[0]));
    return 0;
}

static int log_softmax_grad_run(cnn_entry *e) {
    const cnn_tensor *y = e->in[0];
    entry_kernels(e)->log_softmax_grad(row_count(y), columns(y), tensor_f32(y),
                                       tensor_f32(e->in[1]), tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_softmax_grad = {.name = "softmax_grad", .run = softmax_grad_run};
static const cnn_op op_log_softmax_grad = {.name = "log_softmax_grad", .run = log_softmax_grad_run};

/* in: x; out: y; both dense, the last axis sums to 1 */
static int softmax_run(cnn_entry *e) {
    const cnn_tensor *x = e->in[0];
    entry_kernels(e)->softmax(row_count(x), columns(x), tensor_f32(x), tensor_f32(e->out[0]));
    return 0;
}

static int log_softmax_run(cnn_entry *e) {
    const cnn_tensor *x = e->in[0];
    entry_kernels(e)->log_softmax(row_count(x), columns(x), tensor_f32(x), tensor_f32(e->out[0]));
    return 0;
}

static int gradient_from_y(const cnn_op *op, cnn_entry *e, cnn_tensor *dy, cnn_tensor **dx) {
    cnn_tensor *in[] = {e->out[0], as_dense(dy)};
    if (!in[1]) return -1;
    dx[0] = tape_append1(op, in, 2, tensor_new(dy->size, dy->nd, K_F32, tensor_device(dy)), 0, 0);
    return dx[0] ? 0 : -1;
}

static int softmax_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    return gradient_from_y(&op_softmax_grad, e, dy[0], dx);
}

static int log_softmax_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    return gradient_from_y(&op_log_softmax_grad, e, dy[0], dx);
}

static const cnn_op op_softmax = {
    .name = "softmax", .run = softmax_run, .gradient = softmax_gradient, .saves_out = 1 << 0};
static const cnn_op op_log_softmax = {.name = "log_softmax",
                                      .run = log_softmax_run,
                                      .gradient = log_softmax_gradient,
                                      .saves_out = 1 << 0};

/* Moves the axis at `from` (from 0) to `to`; the order of the others stays. */
static cnn_tensor *move_axis(cnn_tensor *x, int from, int to) {
    int axes[CNN_MAX_DIM], next = 0;
    if (!x || from == to) return x;
    for (int i = 0; i < x->nd; i++) {
        if (next == from) next++; /* its turn comes at `to` */
        axes[i] = 1 + (i == to ? from : next++);
    }
    return cnn_permute(x, axes, x->nd);
}

static cnn_tensor *along_axis(const cnn_op *op, cnn_tensor *x, int axis) {
    int scope = scope_begin();
    if (check_tensor(op->name, "x", x)) return scope_end(scope, 0);
    int a = check_axis(op->name, x, axis), last = x->nd - 1;
    if (a < 0) return scope_end(scope, 0);
    x = as_dense(move_axis(as_f32(x), a, last));
    if (!x) return scope_end(scope, 0);
    cnn_tensor *y =
        tape_append1(op, &x, 1, tensor_new(x->size, x->nd, K_F32, tensor_device(x)), 0, 0);
    return scope_end(scope, move_axis(y, last, a));
}

cnn_tensor *cnn_softmax(cnn_tensor *x, int axis) { return along_axis(&op_softmax, x, axis); }

cnn_tensor *cnn_log_softmax(cnn_tensor *x, int axis) {
    return along_axis(&op_log_softmax, x, axis);
}

/* ------------------------------------------------------------------------------- cross entropy */

/* in: log softmax N x C, labels from 0, dloss; out: dx */
static int cross_entropy_grad_run(cnn_entry *e) {
    const cnn_tensor *logp = e->in[0];
    entry_kernels(e)->cross_entropy_grad(logp->size[0], logp->size[1], tensor_f32(logp),
                                         tensor_ptr(e->in[1]), tensor_f32(e->in[2]),
                                         tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_cross_entropy_grad = {.name = "cross_entropy_grad",
                                             .run = cross_entropy_grad_run};

/* in: x N x C, labels from 0; out: loss, log softmax */
static int cross_entropy_run(cnn_entry *e) {
    const cnn_tensor *x = e->in[0];
    entry_kernels(e)->cross_entropy(x->size[0], x->size[1], tensor_f32(x), tensor_ptr(e->in[1]),
                                    tensor_f32(e->out[1]), tensor_f32(e->out[0]));
    return 0;
}

static int cross_entropy_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    cnn_tensor *in[] = {e->out[1], e->in[1], as_dense(dy[0])};
    if (!in[2]) return -1;
    dx[0] = tape_append1(&op_cross_entropy_grad, in, 3,
                         tensor_new(e->in[0]->size, 2, K_F32, tensor_device(in[2])), 0, 0);
    return dx[0] ? 0 : -1;
}

static const cnn_op op_cross_entropy = {.name = "cross_entropy",
                                        .run = cross_entropy_run,
                                        .gradient = cross_entropy_gradient,
                                        .saves_in = 1 << 1,
                                        .saves_out = 1 << 1};

static int check_cross_entropy(const cnn_tensor *x, const cnn_tensor *label) {
    static const char op[] = "cross_entropy";
    if (check_tensor(op, "x", x) || check_beside(op, x, "label", label)) return -1;
    if (x->nd != 2 || x->size[1] < 1)
        return fail("%s: expected x as NxC, a row of C scores for each label, got %s", op,
                    shape_text(x));
    if (label->nd != 1)
        return fail("%s: expected label with 1 axis, got %s (view it as %lld)", op,
                    shape_text(label), (long long)tensor_numel(label));
    if (label->size[0] != x->size[0])
        return fail("%s: expected %lld labels, one for each row of x (%s), got %lld", op,
                    (long long)x->size[0], shape_text(x), (long long)label->size[0]);
    return 0;
}

cnn_tensor *cnn_cross_entropy(cnn_tensor *x, cnn_tensor *label) {
    int scope = scope_begin();
    if (check_cross_entropy(x, label)) return scope_end(scope, 0);
    cnn_tensor *in[] = {as_dense(as_f32(x)),
                        as_positions("cross_entropy", "label", label, x->size[1])};
    if (!in[0] || !in[1]) return scope_end(scope, 0);
    cnn_dev device = tensor_device(in[0]);
    cnn_tensor *out[] = {tensor_new(x->size, 0, K_F32, device),
                         tensor_new(x->size, 2, K_F32, device)};
    if (!out[0] || !out[1] || tape_append(&op_cross_entropy, in, 2, out, 2, 0, 0))
        return scope_end(scope, 0);
    return scope_end(scope, out[0]);
}

/* ------------------------------------------------------------------------- mean squared error */

cnn_tensor *cnn_mse(cnn_tensor *a, cnn_tensor *b) {
    int scope = scope_begin();
    if (check_tensor("mse", "a", a) || check_beside("mse", a, "b", b)) return scope_end(scope, 0);
    cnn_tensor *d = cnn_sub(as_f32(a), as_f32(b));
    if (!d) return scope_end(scope, fail_null("mse: %s", cnn_error()));
    return scope_end(scope, cnn_mean(cnn_power(d, 2), 0, 0));
}
