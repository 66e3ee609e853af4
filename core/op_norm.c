/* op_norm.c - batch, layer and group normalization.
 *
 * Contract: y = (x - mean) * rstd * gamma + beta with rstd = 1 / sqrt(var + eps); x is a matrix of
 * pixels, rows x channels. Batch norm is put together from four ops: the statistics of the batch,
 * rstd, the normalization, and the running averages, which are written last and in place.
 *
 * Surprising: layer norm is group norm of a picture of one pixel and one group. An empty batch has
 * no statistics; it leaves the running ones as they are. */
#include "layers.h"

#include <math.h>

typedef struct {
    k_norm s;
    float eps;
    int training; /* the statistics came from x, so the gradient flows through them */
} norm_attr;

/* The shape with the row strides of x and y (or dy). */
static k_norm norm_of(cnn_entry *e, const cnn_tensor *x, const cnn_tensor *y) {
    k_norm s = ((const norm_attr *)entry_attr(e))->s;
    s.ldx = row_stride(x);
    s.ldy = row_stride(y);
    return s;
}

/* Of a gradient, whose entry has x, dy .. and dx. */
static k_norm grad_of(cnn_entry *e) {
    k_norm s = norm_of(e, e->in[0], e->in[1]);
    s.lddx = row_stride(e->out[0]);
    return s;
}

/* The gradient of x, gamma and beta, which are inputs 0, gamma_at and gamma_at + 1 of e, by `op`
 * (in: x, dy, mean, rstd, gamma; out: dx, dgamma, dbeta). */
static int emit_gradient(const cnn_op *op, cnn_entry *e, cnn_tensor *dy, cnn_tensor *mean,
                         cnn_tensor *rstd, int gamma_at, cnn_tensor **dx) {
    const norm_attr *a = entry_attr(e);
    cnn_tensor *x = as_activation(e->in[0]);
    if (!x) return -1;
    k_dtype dtype = tensor_dtype(x);
    cnn_tensor *in[] = {as_channels_last(x), as_channels_last(as_dtype(dy, dtype)), mean, rstd,
                        e->in[gamma_at]};
    if (!in[0] || !in[1]) return -1;
    cnn_dev device = tensor_device(in[1]);
    cnn_tensor *out[] = {new_channels_last(x->size, x->nd, dtype, device),
                         tensor_new(&a->s.c, 1, K_F32, device),
                         tensor_new(&a->s.c, 1, K_F32, device)};
    if (!out[0] || !out[1] || !out[2] || tape_append(op, in, 5, out, 3, a, sizeof *a)) return -1;
    dx[0] = out[0];
    dx[gamma_at] = out[1];
    dx[gamma_at + 1] = out[2];
    return 0;
}

/* gamma and beta: c values each, or NULL. */
static int check_affine(const char *op, const cnn_tensor *x, const cnn_tensor *gamma,
                        const cnn_tensor *beta, const int64_t *size, int nd, double eps) {
    if (check_sizes(op, x, "gamma", gamma, size, nd) || check_sizes(op, x, "beta", beta, size, nd))
        return -1;
    if (eps >= 0 && isfinite(eps)) return 0;
    return fail("%s: expected eps of at least 0 and finite, got %g", op, eps);
}

/* N C or N C H W: *pixels gets H * W. */
static int check_pixels(const char *op, const cnn_tensor *x, int64_t *pixels) {
    if (check_tensor(op, "x", x)) return -1;
    if (x->nd != 2 && x->nd != 4)
        return fail("%s: expected x as NxC or NxCxHxW, got %s", op, shape_text(x));
    *pixels = x->nd == 4 ? x->size[2] * x->size[3] : 1;
    return 0;
}

/* ---------------------------------------------------------------------------------- batch norm */

/* in: x; out: mean, var of each channel */
static int batch_stats_run(cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    k_norm s = norm_of(e, e->in[0], e->in[0]);
    void *scratch = entry_scratch(e, k->norm_scratch(&s));
    if (!scratch) return -1;
    k->batch_stats(&s, tensor_f32(e->in[0]), tensor_f32(e->out[0]), tensor_f32(e->out[1]), scratch);
    return 0;
}

static const cnn_op op_batch_stats = {.name = "batch_stats", .run = batch_stats_run, .strided = 1};

/* rstd = sqrt(v) / v with v = var + eps. in: var; out: rstd */
static int rstd_run(cnn_entry *e) {
    const norm_attr *a = entry_attr(e);
    entry_kernels(e)->rstd(a->s.c, tensor_f32(e->in[0]), a->eps, tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_rstd = {.name = "rstd", .run = rstd_run, .early = 1};

/* in: x, dy, mean, rstd, gamma or NULL; out: dx, dgamma, dbeta */
static int batch_norm_grad_run(cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    const norm_attr *a = entry_attr(e);
    k_norm s = grad_of(e);
    void *scratch = entry_scratch(e, k->norm_scratch(&s));
    if (!scratch) return -1;
    k->batch_norm_grad(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]), tensor_f32(e->in[2]),
                       tensor_f32(e->in[3]), tensor_values(e->in[4]), a->training,
                       tensor_f32(e->out[0]), tensor_f32(e->out[1]), tensor_f32(e->out[2]),
                       scratch);
    return 0;
}

static const cnn_op op_batch_norm_grad = {.name = "batch_norm_grad",
                                          .run = batch_norm_grad_run,
                                          .reuses_in = 1 << 0 | 1 << 1,
                                          .strided = 1};

/* in: x, mean, rstd, gamma or NULL, beta or NULL; out: y */
static int batch_norm_run(cnn_entry *e) {
    k_norm s = norm_of(e, e->in[0], e->out[0]);
    entry_kernels(e)->batch_norm(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]),
                                 tensor_f32(e->in[2]), tensor_values(e->in[3]),
                                 tensor_values(e->in[4]), tensor_f32(e->out[0]));
    return 0;
}

static int batch_norm_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    return emit_gradient(&op_batch_norm_grad, e, dy[0], e->in[1], e->in[2], 3, dx);
}

/* With ReLU behind it, or with a sum and ReLU, as at the end of a residual block. */
static int batch_norm_joins(const cnn_entry *e) {
    const cnn_entry *sum;
    int64_t ld;
    if (!entry_kernels(e)->batch_norm_relu) return 1;
    if (joins_next(e, relu_op, 0)) return 2;
    for (int at = 0; at < 2; at++)
        if ((sum = joins_next(e, add_op, at)) && joins_next(sum, relu_op, 0) &&
            tensor_same_shape(sum->in[1 - at], sum->out[0]) &&
            tensor_is_pixels(sum->in[1 - at], &ld))
            return 3;
    return 1;
}

/* in: those of batch norm, of the sum, of ReLU; out: ReLU's */
static int batch_norm_relu_run(cnn_entry *const *list, int n) {
    cnn_entry *e = list[0], *sum = n > 2 ? list[1] : 0;
    const cnn_tensor *y = list[n - 1]->out[0];
    const cnn_tensor *other = !sum ? 0 : sum->in[sum->in[0]->storage == e->out[0]->storage ? 1 : 0];
    k_norm s = norm_of(e, e->in[0], y);
    entry_kernels(e)->batch_norm_relu(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]),
                                      tensor_f32(e->in[2]), tensor_values(e->in[3]),
                                      tensor_values(e->in[4]), tensor_values(other),
                                      other ? row_stride(other) : 0, tensor_f32(y));
    return 0;
}

static const cnn_op op_batch_norm = {.name = "batch_norm",
                                     .run = batch_norm_run,
                                     .joins = batch_norm_joins,
                                     .run_many = batch_norm_relu_run,
                                     .chain = 1,
                                     .strided = 1,
                                     .gradient = batch_norm_gradient,
                                     .saves_in = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3,
                                     .reuses_in = 1 << 0};

const cnn_op *const batch_norm_op = &op_batch_norm;

typedef struct {
    float keep,
        take[2]; /* running := keep * running + take * batch, for the mean and the variance */
} running_attr;

/* in: mean, var of the batch; out, in place: the running ones */
static int running_stats_run(cnn_entry *e) {
    const running_attr *a = entry_attr(e);
    for (int i = 0; i < 2; i++)
        entry_kernels(e)->running(e->in[0]->size[0], a->keep, a->take[i], tensor_f32(e->in[i]),
                                  e->out[i]->stride[0], tensor_f32(e->out[i]));
    return 0;
}

static const cnn_op op_running_stats = {
    .name = "running_stats", .run = running_stats_run, .early = 1};

static int check_batch_norm(const cnn_tensor *x, const cnn_tensor *gamma, const cnn_tensor *beta,
                            const cnn_tensor *mean, const cnn_tensor *var, int training,
                            double momentum, double eps, norm_attr *a) {
    static const char op[] = "batch_norm";
    int64_t pixels = 0;
    if (check_pixels(op, x, &pixels)) return -1;
    int64_t c = x->size[1], rows = x->size[0] * pixels;
    if (check_affine(op, x, gamma, beta, &c, 1, eps) || check_sizes(op, x, "mean", mean, &c, 1) ||
        check_sizes(op, x, "var", var, &c, 1))
        return -1;
    if (!mean != !var)
        return fail("%s: expected mean and var, both or neither, got %s alone", op,
                    mean ? "mean" : "var");
    if (mean && (tensor_dtype(mean) != K_F32 || tensor_dtype(var) != K_F32))
        return fail("%s: expected mean and var as f32, got %s and %s", op, cnn_dtype(mean),
                    cnn_dtype(var));
    if (training && mean && (mean->requires_grad || var->requires_grad) && cnn_grad_enabled())
        return fail("%s: expected running mean and var that require no gradient, as they are "
                    "written in place",
                    op);
    if (!(momentum >= 0 && momentum <= 1))
        return fail("%s: expected a momentum from 0 to 1, got %g", op, momentum);
    if ((training || !mean) && rows == 1)
        return fail(
            "%s: expected more than 1 value per channel when training, got %s (use a larger "
            "batch, or eval mode)",
            op, shape_text(x));
    *a = (norm_attr){.s = {.rows = rows, .c = c, .pixels = pixels > 0 ? pixels : 1, .groups = 1},
                     .eps = (float)eps,
                     .training = (training || !mean) && rows > 0};
    return 0;
}

/* The mean and variance to normalize with: of the batch, or the running ones, or, for an empty
 * batch without any, 0 and 1. */
static int statistics(cnn_tensor *x, cnn_tensor **mean, cnn_tensor **var, const norm_attr *a) {
    if (a->training) {
        cnn_dev device = tensor_device(x);
        cnn_tensor *out[] = {tensor_new(&a->s.c, 1, K_F32, device),
                             tensor_new(&a->s.c, 1, K_F32, device)};
        if (!out[0] || !out[1] || tape_append(&op_batch_stats, &x, 1, out, 2, a, sizeof *a))
            return -1;
        *mean = out[0];
        *var = out[1];
        return 0;
    }
    const char *device = cnn_device(x);
    *mean = *mean ? as_dense(*mean) : cnn_full(&a->s.c, 1, 0, "f32", device);
    *var = *var ? as_dense(*var) : cnn_full(&a->s.c, 1, 1, "f32", device);
    return *mean && *var ? 0 : -1;
}

cnn_tensor *cnn_batch_norm(cnn_tensor *x, cnn_tensor *gamma, cnn_tensor *beta, cnn_tensor *mean,
                           cnn_tensor *var, int training, double momentum, double eps) {
    int scope = scope_begin();
    norm_attr a;
    if (check_batch_norm(x, gamma, beta, mean, var, training, momentum, eps, &a))
        return scope_end(scope, 0);
    cnn_tensor *in[] = {as_channels_last(as_activation(x)), mean, var, as_vector(gamma),
                        as_vector(beta)};
    if (!in[0] || (gamma && !in[3]) || (beta && !in[4]) || statistics(in[0], &in[1], &in[2], &a))
        return scope_end(scope, 0);
    cnn_tensor *stats[] = {in[1], in[2]}, *running[] = {mean, var};
    cnn_dev device = tensor_device(in[0]);
    in[2] =
        tape_append1(&op_rstd, &stats[1], 1, tensor_new(&a.s.c, 1, K_F32, device), &a, sizeof a);
    if (!in[2]) return scope_end(scope, 0);
    cnn_tensor *y =
        tape_append1(&op_batch_norm, in, 5,
                     new_channels_last(x->size, x->nd, tensor_dtype(in[0]), device), &a, sizeof a);
    if (!y || !training || !a.training || !mean) return scope_end(scope, y);
    double m = (double)a.s.rows;
    running_attr r = {(float)(1 - momentum), {(float)momentum, (float)(momentum * m / (m - 1))}};
    int failed = tape_append_inplace(&op_running_stats, stats, 2, running, 2, &r, sizeof r);
    return scope_end(scope, failed ? 0 : y);
}

/* ------------------------------------------------------------------------ group and layer norm */

/* in: x, dy, mean, rstd, gamma or NULL; out: dx, dgamma, dbeta */
static int group_norm_grad_run(cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    k_norm s = grad_of(e);
    void *scratch = entry_scratch(e, k->norm_scratch(&s));
    if (!scratch) return -1;
    k->group_norm_grad(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]), tensor_f32(e->in[2]),
                       tensor_f32(e->in[3]), tensor_values(e->in[4]), tensor_f32(e->out[0]),
                       tensor_f32(e->out[1]), tensor_f32(e->out[2]), scratch);
    return 0;
}

static const cnn_op op_group_norm_grad = {.name = "group_norm_grad", .run = group_norm_grad_run};

/* in: x, gamma or NULL, beta or NULL; out: y, and mean and rstd of each sample's groups */
static int group_norm_run(cnn_entry *e) {
    k_norm s = norm_of(e, e->in[0], e->out[0]);
    entry_kernels(e)->group_norm(&s, tensor_f32(e->in[0]), tensor_values(e->in[1]),
                                 tensor_values(e->in[2]), ((const norm_attr *)entry_attr(e))->eps,
                                 tensor_f32(e->out[0]), tensor_f32(e->out[1]),
                                 tensor_f32(e->out[2]));
    return 0;
}

static int group_norm_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    return emit_gradient(&op_group_norm_grad, e, dy[0], e->out[1], e->out[2], 1, dx);
}

#define GROUP_NORM(op)                                                                             \
    {                                                                                              \
        .name = op, .run = group_norm_run, .gradient = group_norm_gradient,                        \
        .saves_in = 1 << 0 | 1 << 1, .saves_out = 1 << 1 | 1 << 2                                  \
    }
static const cnn_op op_group_norm = GROUP_NORM("group_norm"),
                    op_layer_norm = GROUP_NORM("layer_norm");

/* x: a matrix of pixels, gamma and beta: c values or NULL */
static cnn_tensor *normalize(const cnn_op *op, cnn_tensor *x, cnn_tensor *gamma, cnn_tensor *beta,
                             const norm_attr *a) {
    if (!x) return 0;
    cnn_dev device = tensor_device(x);
    int64_t count = a->s.rows / a->s.pixels * a->s.groups;
    cnn_tensor *in[] = {x, gamma, beta};
    cnn_tensor *out[] = {new_channels_last(x->size, x->nd, K_F32, device),
                         tensor_new(&count, 1, K_F32, device),
                         tensor_new(&count, 1, K_F32, device)};
    if (!out[0] || !out[1] || !out[2] || tape_append(op, in, 3, out, 3, a, sizeof *a)) return 0;
    return out[0];
}

cnn_tensor *cnn_group_norm(cnn_tensor *x, int groups, cnn_tensor *gamma, cnn_tensor *beta,
                           double eps) {
    int scope = scope_begin();
    int64_t pixels = 0;
    if (check_pixels("group_norm", x, &pixels) ||
        check_affine("group_norm", x, gamma, beta, x->size + 1, 1, eps))
        return scope_end(scope, 0);
    int64_t c = x->size[1];
    if (groups < 1 || c % groups)
        return scope_end(scope, fail_null("group_norm: expected groups that divide %lld channels, "
                                          "got %d",
                                          (long long)c, groups));
    norm_attr a = {.s = {.rows = x->size[0] * pixels,
                         .c = c,
                         .pixels = pixels > 0 ? pixels : 1,
                         .groups = groups},
                   .eps = (float)eps};
    cnn_tensor *g = as_vector(gamma), *b = as_vector(beta);
    if ((gamma && !g) || (beta && !b)) return scope_end(scope, 0);
    return scope_end(scope, normalize(&op_group_norm, as_channels_last(as_f32(x)), g, b, &a));
}

cnn_tensor *cnn_layer_norm(cnn_tensor *x, int last, cnn_tensor *gamma, cnn_tensor *beta,
                           double eps) {
    int scope = scope_begin();
    if (check_tensor("layer_norm", "x", x)) return scope_end(scope, 0);
    if (last < 1 || last > x->nd)
        return scope_end(scope, fail_null("layer_norm: expected from 1 to %d axes of %s, got %d",
                                          x->nd, shape_text(x), last));
    int first = x->nd - last;
    if (check_affine("layer_norm", x, gamma, beta, x->size + first, last, eps))
        return scope_end(scope, 0);
    int64_t size[2] = {1, 1}; /* rows, c */
    for (int i = 0; i < x->nd; i++) size[i >= first] *= x->size[i];
    norm_attr a = {.s = {.rows = size[0], .c = size[1], .pixels = 1, .groups = 1},
                   .eps = (float)eps};
    cnn_tensor *g = gamma ? cnn_view(as_vector(gamma), size + 1, 1) : 0;
    cnn_tensor *b = beta ? cnn_view(as_vector(beta), size + 1, 1) : 0;
    if ((gamma && !g) || (beta && !b)) return scope_end(scope, 0);
    cnn_tensor *matrix = cnn_view(as_dense(as_f32(x)), size, 2);
    cnn_tensor *y = normalize(&op_layer_norm, matrix, g, b, &a);
    return scope_end(scope, y ? cnn_view(y, x->size, x->nd) : 0);
}
