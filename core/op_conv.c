/* op_conv.c - 2-D convolution (cross-correlation, as every framework has it) and its gradients.
 *
 * Contract: x N C H W in any layout, taken as a matrix of pixels; w O x C/groups x KH x KW. y is
 * stored channels-last. The kernels want the weights dense as O, KH, KW, C/groups: that is w stored
 * channels-last, and so its gradient is stored, so that optimizers see one layout.
 *
 * Surprising: a 1x1 kernel is channels-last in either layout; weights of other sizes that are kept
 * row-major are copied at every call. */
#include "layers.h"

/* The shape with the row strides of x (or dx) and y (or dy). */
static k_conv conv_of(cnn_entry *e, const cnn_tensor *x, const cnn_tensor *y) {
    k_conv s = *(const k_conv *)entry_attr(e);
    s.ldx = row_stride(x);
    s.ldy = row_stride(y);
    return s;
}

/* The shape of a gradient, and scratch memory for it; 0 or -1. */
static int grad_ready(cnn_entry *e, const cnn_tensor *x, const cnn_tensor *y, k_direction way,
                      k_conv *s, void **scratch) {
    *s = conv_of(e, x, y);
    *scratch = entry_scratch(e, entry_kernels(e)->conv_scratch(s, way));
    return *scratch ? 0 : -1;
}

/* in: dy, w; out: dx */
static int conv_data_grad_run(cnn_entry *e) {
    k_conv s;
    void *scratch;
    if (grad_ready(e, e->out[0], e->in[0], K_DATA_GRAD, &s, &scratch)) return -1;
    entry_kernels(e)->conv_data_grad(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]),
                                     tensor_f32(e->out[0]), scratch);
    return 0;
}

static const cnn_op op_conv_data_grad = {
    .name = "conv2d_data_grad", .run = conv_data_grad_run, .strided = 1};

/* in: x, dy; out: dw */
static int conv_weight_grad_run(cnn_entry *e) {
    k_conv s;
    void *scratch;
    if (grad_ready(e, e->in[0], e->in[1], K_WEIGHT_GRAD, &s, &scratch)) return -1;
    entry_kernels(e)->conv_weight_grad(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]),
                                       tensor_f32(e->out[0]), scratch);
    return 0;
}

static const cnn_op op_conv_weight_grad = {
    .name = "conv2d_weight_grad", .run = conv_weight_grad_run, .strided = 1};

/* ------------------------------------------------------------------------------------- forward */

/* in: x, w, b or NULL */
static int conv2d_run(cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    k_conv s = conv_of(e, e->in[0], e->out[0]);
    void *scratch = entry_scratch(e, k->conv_scratch(&s, K_FORWARD));
    if (!scratch) return -1;
    k->conv_forward(&s, tensor_f32(e->in[0]), tensor_f32(e->in[1]), tensor_values(e->in[2]),
                    tensor_f32(e->out[0]), scratch);
    return 0;
}

static const float no_value; /* stands for a vector that a join will have */

/* What follows a convolution and can be done in its kernel, in this order, each or none: batch norm
 * by statistics that are known, a sum with another matrix of pixels, ReLU. */
typedef struct {
    const cnn_entry *norm, *sum, *relu, *last;
    const cnn_tensor *other; /* of the sum */
    int n;                   /* entries, the convolution included */
} ending;

static const cnn_entry *take(ending *d, const cnn_entry *f) {
    if (f) d->last = f, d->n++;
    return f;
}

static ending ending_of(const cnn_entry *e) {
    ending d = {.last = e, .n = 1};
    int64_t ld;
    d.norm = take(&d, joins_next(d.last, batch_norm_op, 0));
    for (int at = 0; at < 2 && !d.sum; at++) {
        const cnn_entry *sum = joins_next(d.last, add_op, at);
        if (!sum || !tensor_same_shape(sum->in[1 - at], sum->out[0]) ||
            !tensor_is_pixels(sum->in[1 - at], &ld))
            continue;
        d.sum = take(&d, sum), d.other = sum->in[1 - at];
    }
    d.relu = take(&d, joins_next(d.last, relu_op, 0));
    return d;
}

/* How many run at once: all that follow, where the kernels have that, or ReLU alone. */
static int conv2d_joins(const cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    if (!e->next || !k->conv_joined) return 1;
    ending d = ending_of(e);
    if (d.n == 1) return 1;
    k_conv s = conv_of((cnn_entry *)e, e->in[0], d.last->out[0]);
    k_join wanted = {
        .gain = d.norm ? &no_value : 0, .add = d.sum ? &no_value : 0, .relu = d.relu != 0};
    return k->conv_joined_scratch(&s, &wanted) < 0 ? 1 : d.n;
}

/* gamma * rstd, and beta + (bias - mean) * gamma * rstd; only the CPU's kernels take a gain, so the
 * values lie on the host. */
static void fold_norm(const cnn_entry *norm, k_join *j, int64_t o, float *gain, float *bias) {
    const float *mean = tensor_f32(norm->in[1]), *rstd = tensor_f32(norm->in[2]);
    const float *gamma = tensor_values(norm->in[3]), *beta = tensor_values(norm->in[4]);
    for (int64_t i = 0; i < o; i++) {
        gain[i] = (gamma ? gamma[i] : 1) * rstd[i];
        bias[i] = (beta ? beta[i] : 0) + ((j->bias ? j->bias[i] : 0) - mean[i]) * gain[i];
    }
    j->gain = gain, j->bias = bias;
}

static int conv2d_joined_run(cnn_entry *const *list, int n) {
    cnn_entry *e = list[0];
    const cnn_tensor *y = list[n - 1]->out[0];
    const k_table *k = entry_kernels(e);
    k_conv s = conv_of(e, e->in[0], y);
    k_join j = {.bias = tensor_values(e->in[2])};
    const cnn_entry *norm = 0;
    for (int i = 1; i < n; i++) {
        const cnn_entry *f = list[i];
        if (f->op == batch_norm_op) norm = f;
        if (f->op == relu_op) j.relu = 1;
        if (f->op != add_op) continue;
        const cnn_tensor *other = f->in[f->in[0]->storage == list[i - 1]->out[0]->storage ? 1 : 0];
        j.add = tensor_f32(other), j.ldadd = row_stride(other);
    }
    int64_t folded = norm ? 2 * s.o * (int64_t)sizeof(float) : 0;
    j.gain = norm ? &no_value : 0;
    int64_t bytes = (k->conv_joined_scratch(&s, &j) + 63) / 64 * 64;
    char *scratch = entry_scratch(e, bytes + folded);
    if (!scratch) return -1;
    float *gain = (float *)(scratch + bytes);
    if (norm) fold_norm(norm, &j, s.o, gain, gain + s.o);
    k->conv_joined(&s, &j, tensor_f32(e->in[0]), tensor_f32(e->in[1]), tensor_f32(y), scratch);
    return 0;
}

/* ------------------------------------------------------------------------------------ gradients */

/* A tensor of bf16 that begins at a multiple of 16 bytes, as the kernels want it. */
static cnn_tensor *as_aligned(cnn_tensor *x) {
    return x && tensor_dtype(x) == K_BF16 && x->offset % 8 ? cnn_clone(x) : x;
}

static cnn_tensor *as_conv_operand(cnn_tensor *x) {
    return as_aligned(as_channels_last(as_operand(x)));
}

static int conv2d_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const k_conv *s = entry_attr(e);
    cnn_tensor *g = as_conv_operand(dy[0]);
    if (!g) return -1;
    cnn_dev device = tensor_device(g);
    k_dtype dtype = tensor_dtype(g);
    if (entry_wants(e, 0)) {
        cnn_tensor *in[] = {g, as_dense_channels_last(as_operand(e->in[1]))};
        if (!in[1]) return -1;
        dx[0] = tape_append1(&op_conv_data_grad, in, 2,
                             tensor_new_channels_last(e->in[0]->size, dtype, device), s, sizeof *s);
        if (!dx[0]) return -1;
    }
    if (entry_wants(e, 1)) {
        cnn_tensor *in[] = {as_conv_operand(e->in[0]), g};
        if (!in[0]) return -1;
        dx[1] = tape_append1(&op_conv_weight_grad, in, 2,
                             tensor_new_channels_last(e->in[1]->size, dtype, device), s, sizeof *s);
        if (!dx[1]) return -1;
    }
    if (entry_wants(e, 2)) {
        dx[2] = cnn_view(cnn_sum(g, (const int[]){1, 3, 4}, 3), &s->o, 1);
        if (!dx[2]) return -1;
    }
    return 0;
}

static const cnn_op op_conv2d = {.name = "conv2d",
                                 .run = conv2d_run,
                                 .joins = conv2d_joins,
                                 .run_many = conv2d_joined_run,
                                 .chain = 1,
                                 .strided = 1,
                                 .gradient = conv2d_gradient,
                                 .saves_in = 1 << 0 | 1 << 1};

static int check_weights(const cnn_tensor *x, const cnn_tensor *w, int groups) {
    if (check_tensor("conv2d", "x", x) || check_beside("conv2d", x, "w", w)) return -1;
    if (w->nd != 4 || !tensor_numel(w))
        return fail("conv2d: expected w as O x C/groups x KH x KW, none of them 0, got %s",
                    shape_text(w));
    if (groups < 1 || w->size[0] % groups)
        return fail("conv2d: expected groups that divide %lld output channels, got %d",
                    (long long)w->size[0], groups);
    int64_t c = w->size[1] * groups;
    if (x->nd == 4 && x->size[1] != c)
        return fail("conv2d: expected %lld channels, got %lld (x is %s)", (long long)c,
                    (long long)x->size[1], shape_text(x));
    return 0;
}

cnn_tensor *cnn_conv2d(cnn_tensor *x, cnn_tensor *w, cnn_tensor *b, int sh, int sw, int ph, int pw,
                       int dh, int dw, int groups) {
    int scope = scope_begin();
    if (check_weights(x, w, groups)) return scope_end(scope, 0);
    window v = {w->size[2], w->size[3], sh, sw, ph, pw, dh, dw};
    int64_t oh, ow, o = w->size[0];
    if (check_window("conv2d", x, &v, &oh, &ow) || check_sizes("conv2d", x, "b", b, &o, 1))
        return scope_end(scope, 0);
    k_conv s = {.n = x->size[0],
                .h = x->size[2],
                .w = x->size[3],
                .c = x->size[1],
                .oh = oh,
                .ow = ow,
                .o = o,
                .kh = v.kh,
                .kw = v.kw,
                .sh = sh,
                .sw = sw,
                .ph = ph,
                .pw = pw,
                .dh = dh,
                .dw = dw,
                .groups = groups};
    const int64_t padded[] = {s.c, s.h + 2 * s.ph, s.w + 2 * s.pw};
    int64_t most = (int64_t)1 << 48, count = sizes_count(padded, 3);
    if (count < 0 || count > most)
        return scope_end(scope, fail_null("conv2d: expected a smaller padding, got one that makes "
                                          "x %s",
                                          sizes_text(padded, 3)));
    int64_t macs =
        check_macs("conv2d", (const int64_t[]){s.n, oh, ow, o, w->size[1], s.kh, s.kw}, 7);
    if (macs < 0) return scope_end(scope, 0);

    cnn_tensor *in[] = {as_conv_operand(x), as_aligned(as_dense_channels_last(as_operand(w))),
                        as_aligned(as_dense(as_operand(b)))};
    if (!in[0] || !in[1] || (b && !in[2])) return scope_end(scope, 0);
    const int64_t size[] = {s.n, o, oh, ow};
    cnn_tensor *y = tape_append1(
        &op_conv2d, in, 3, tensor_new_channels_last(size, tensor_dtype(in[0]), tensor_device(x)),
        &s, sizeof s);
    if (y) count_macs(macs);
    return scope_end(scope, y);
}
