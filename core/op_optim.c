/* op_optim.c - optimizers: one parameter in place by its gradient.
 *
 * Contract: the parameter is f32 and stored without holes, row-major or channels-last; its buffers
 * are stored like it. The gradient may be stored in any way.
 *
 * Surprising: these are the only ops meant to change a leaf that requires a gradient. They are
 * appended behind the gradient's ops, so a recorded step keeps the order. */
#include "layers.h"

#include <math.h>

static int check_param(const char *op, const cnn_tensor *param) {
    if (check_tensor(op, "the parameter", param)) return -1;
    if (tensor_dtype(param) != K_F32)
        return fail("%s: expected a parameter of f32, got %s", op, cnn_dtype(param));
    if (!is_packed(param))
        return fail("%s: expected a parameter without holes between its elements, got a view of a "
                    "larger tensor (%s)",
                    op, shape_text(param));
    if (!param->grad)
        return fail("%s: expected a gradient of the parameter (%s), got none: call backward first",
                    op, shape_text(param));
    return check_sizes(op, param, "the gradient", param->grad, param->size, param->nd);
}

static int check_buffer(const char *op, const cnn_tensor *param, const char *what,
                        const cnn_tensor *buffer) {
    if (check_tensor(op, what, buffer) ||
        check_sizes(op, param, what, buffer, param->size, param->nd))
        return -1;
    if (tensor_device(buffer) != tensor_device(param))
        return fail("%s: expected %s on %s, got it on %s", op, what, cnn_device(param),
                    cnn_device(buffer));
    if (tensor_dtype(buffer) != K_F32)
        return fail("%s: expected %s of f32, got %s", op, what, cnn_dtype(buffer));
    if (!tensor_same_dense_layout(buffer, param))
        return fail("%s: expected %s stored as the parameter is, got another order (make it from a "
                    "clone)",
                    op, what);
    return 0;
}

static int check_amount(const char *op, const char *what, double value) {
    if (value >= 0 && isfinite(value)) return 0;
    return fail("%s: expected %s of at least 0 and finite, got %g", op, what, value);
}

static int check_beta(const char *op, const char *what, double value) {
    if (value >= 0 && value < 1) return 0;
    return fail("%s: expected %s from 0 to below 1, got %g", op, what, value);
}

/* Appends the op; the outputs are the parameter and its buffers. */
static int step_by_gradient(const cnn_op *op, cnn_tensor *const *out, int n_out, const void *attr,
                            size_t bytes) {
    cnn_tensor *grad = as_stored(as_f32(out[0]->grad), out[0]);
    return grad ? tape_append_inplace(op, &grad, 1, out, n_out, attr, bytes) : -1;
}

/* What the kernels step at once: each entry's gradient, parameter and buffers. */
static const k_part *parts_of(cnn_entry *const *list, int n) {
    static k_part part[MOST_JOINED];
    for (int i = 0; i < n; i++) {
        const cnn_entry *e = list[i];
        part[i] = (k_part){.n = tensor_numel(e->out[0]),
                           .p = tensor_f32(e->out[0]),
                           .g = tensor_f32(e->in[0]),
                           .u = e->n_out > 1 ? tensor_f32(e->out[1]) : NULL,
                           .v = e->n_out > 2 ? tensor_f32(e->out[2]) : NULL};
    }
    return part;
}

/* ---------------------------------------------------------------------------------------- sgd */

/* in: gradient; out: parameter, velocity unless the momentum is 0; attr: k_sgd */
static int sgd_run(cnn_entry *const *list, int n) {
    entry_kernels(list[0])->sgd(n, parts_of(list, n), entry_attr(list[0]));
    return 0;
}

static const cnn_op op_sgd = {
    .name = "sgd", .joins = joins_equals, .run_many = sgd_run, .varying_bytes = sizeof(k_sgd)};

static int check_sgd(const cnn_tensor *param, const cnn_tensor *velocity, double lr,
                     double momentum, double weight_decay, int nesterov) {
    if (check_param("sgd", param) || check_amount("sgd", "lr", lr) ||
        check_amount("sgd", "momentum", momentum) ||
        check_amount("sgd", "weight_decay", weight_decay))
        return -1;
    if (nesterov && momentum == 0)
        return fail("sgd: expected a momentum above 0 with nesterov, got 0");
    return momentum == 0 ? 0 : check_buffer("sgd", param, "velocity", velocity);
}

int cnn_sgd(cnn_tensor *param, cnn_tensor *velocity, double lr, double momentum,
            double weight_decay, int nesterov, int first) {
    int scope = scope_begin();
    int rc = check_sgd(param, velocity, lr, momentum, weight_decay, nesterov);
    k_sgd a = {(float)lr, (float)momentum, (float)weight_decay, nesterov, first};
    cnn_tensor *out[] = {param, velocity};
    if (!rc) rc = step_by_gradient(&op_sgd, out, momentum == 0 ? 1 : 2, &a, sizeof a);
    scope_end(scope, 0);
    return rc;
}

/* --------------------------------------------------------------------------------------- adam */

/* in: gradient; out: parameter, m, v; attr: k_adam */
static int adam_run(cnn_entry *const *list, int n) {
    entry_kernels(list[0])->adam(n, parts_of(list, n), entry_attr(list[0]));
    return 0;
}

static const cnn_op op_adam = {
    .name = "adam", .joins = joins_equals, .run_many = adam_run, .varying_bytes = sizeof(k_adam)};

int cnn_adam(cnn_tensor *param, cnn_tensor *m, cnn_tensor *v, double lr, double beta1, double beta2,
             double eps, double weight_decay, int decoupled, int64_t step) {
    static const char op[] = "adam";
    int scope = scope_begin();
    int rc = check_param(op, param) || check_buffer(op, param, "m", m) ||
             check_buffer(op, param, "v", v) || check_amount(op, "lr", lr) ||
             check_beta(op, "beta1", beta1) || check_beta(op, "beta2", beta2) ||
             check_amount(op, "eps", eps) || check_amount(op, "weight_decay", weight_decay);
    if (!rc && step < 1) rc = fail("%s: expected a step from 1, got %lld", op, (long long)step);
    k_adam a = {(float)lr,           (float)beta1, (float)beta2, (float)eps,
                (float)weight_decay, decoupled,    step};
    cnn_tensor *out[] = {param, m, v};
    if (!rc) rc = step_by_gradient(&op_adam, out, 3, &a, sizeof a);
    scope_end(scope, 0);
    return rc ? -1 : 0;
}
