/* op_pointwise.c - arithmetic, comparison and activations, element by element.
 *
 * Every op here is a slot of the kernel table, a formula for its gradient and one line in the list
 * below. Inputs broadcast as in NumPy: shapes are aligned at the right, a size of 1 stretches.
 *
 * Surprising: the output takes its layout from the input of its own shape, so a chain of ops on
 * channels-last activations stays channels-last and its loops stay flat. */
#include "core.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------- loops */

/* x's strides for the axes of a shape that it broadcasts to. */
static void broadcast_strides(const cnn_tensor *x, int nd, int64_t *stride) {
    for (int i = 0; i < nd; i++) {
        int a = i - (nd - x->nd);
        stride[i] = a >= 0 && x->size[a] != 1 ? x->stride[a] : 0;
    }
}

/* Axes of y from the largest stride to the smallest. */
static void axes_by_stride(const cnn_tensor *y, int *axis) {
    for (int i = 0; i < y->nd; i++) {
        int k = i;
        for (; k > 0 && y->stride[axis[k - 1]] < y->stride[i]; k--) axis[k] = axis[k - 1];
        axis[k] = i;
    }
}

void loop_make(k_loop *l, const cnn_tensor *y, const cnn_tensor *a, const cnn_tensor *b,
               const cnn_tensor *c) {
    const cnn_tensor *operand[4] = {y, a, b, c};
    int64_t stride[4][CNN_MAX_DIM] = {{0}};
    int axis[CNN_MAX_DIM], nd = 0;
    for (int t = 0; t < 4; t++)
        if (operand[t]) broadcast_strides(operand[t], y->nd, stride[t]);
    axes_by_stride(y, axis);
    memset(l, 0, sizeof *l);
    int64_t *to[4] = {l->sy, l->sa, l->sb, l->sc};
    for (int i = 0; i < y->nd; i++) {
        int from = axis[i];
        int64_t size = y->size[from];
        if (size == 1) continue;
        int merge = nd > 0;
        for (int t = 0; t < 4 && merge; t++) merge = to[t][nd - 1] == stride[t][from] * size;
        if (merge)
            l->size[nd - 1] *= size;
        else
            l->size[nd++] = size;
        for (int t = 0; t < 4; t++) to[t][nd - 1] = stride[t][from];
    }
    if (nd == 0) l->size[nd++] = 1;
    l->nd = nd;
}

/* ------------------------------------------------------------------------------------ op and run
 */

typedef struct {
    cnn_op op; /* first: an entry's op is one of these */
    size_t slot;
    int wide;      /* has no kernel for bf16 activations */
    int condition; /* its first input is one, 0 or not, of any dtype */
} pointwise;

typedef struct {
    float p[2];
} pointwise_attr;

static int pointwise_run(cnn_entry *e) {
    const pointwise *op = (const pointwise *)e->op;
    const pointwise_attr *attr = entry_attr(e);
    k_pointwise *kernel;
    memcpy(&kernel, (const char *)entry_kernels(e) + op->slot, sizeof kernel);
    const cnn_tensor *in[3] = {0};
    for (int i = 0; i < e->n_in; i++) in[i] = e->in[i];
    k_loop l;
    loop_make(&l, e->out[0], in[0], in[1], in[2]);
    kernel(&l, tensor_f32(e->out[0]), tensor_f32(in[0]), in[1] ? tensor_f32(in[1]) : 0,
           in[2] ? tensor_f32(in[2]) : 0, attr->p);
    return 0;
}

/* The shape that all inputs broadcast to; -1 when there is none. */
static int broadcast_shape(const char *op, cnn_tensor *const *in, int n, int64_t *size) {
    int nd = 0;
    for (int i = 0; i < n; i++) nd = in[i]->nd > nd ? in[i]->nd : nd;
    for (int d = 0; d < nd; d++) size[d] = 1;
    for (int i = 0; i < n; i++)
        for (int a = 0; a < in[i]->nd; a++) {
            int64_t *s = &size[a + nd - in[i]->nd], mine = in[i]->size[a];
            if (*s == 1)
                *s = mine;
            else if (mine != 1 && mine != *s) {
                if (n == 2)
                    return fail("%s: expected shapes that broadcast, got %s and %s", op,
                                shape_text(in[0]), shape_text(in[1]));
                return fail("%s: expected shapes that broadcast, got %s, %s and %s", op,
                            shape_text(in[0]), shape_text(in[1]), shape_text(in[2]));
            }
        }
    return nd;
}

static cnn_tensor *output_for(cnn_tensor *const *in, int n, const int64_t *size, int nd) {
    cnn_tensor *like = 0;
    int channels_last = 0, meta = 0;
    for (int i = 0; i < n; i++) {
        meta |= tensor_device(in[i]) == DEV_META;
        if (in[i]->nd != nd || memcmp(in[i]->size, size, (size_t)nd * sizeof *size)) continue;
        if (!like) like = in[i];
        channels_last |= tensor_is_channels_last(in[i]);
    }
    cnn_dev device = meta ? DEV_META : tensor_device(in[0]);
    k_dtype dtype = tensor_dtype(in[0]);
    if (channels_last) return tensor_new_channels_last(size, dtype, device);
    return like ? tensor_new_like(like, dtype) : tensor_new(size, nd, dtype, device);
}

static cnn_tensor *apply(const pointwise *op, cnn_tensor *a, cnn_tensor *b, cnn_tensor *c, int n,
                         double p0, double p1) {
    static const char *const names[3] = {"the first operand", "the second operand",
                                         "the third operand"};
    cnn_tensor *in[3] = {a, b, c};
    int64_t size[CNN_MAX_DIM];
    int scope = scope_begin();
    for (int i = 0; i < n; i++)
        if (check_tensor(op->op.name, n > 1 ? names[i] : "x", in[i]) < 0)
            return scope_end(scope, 0);
    int nd = broadcast_shape(op->op.name, in, n, size);
    if (nd < 0) return scope_end(scope, 0);
    cnn_dev device = DEV_CPU;
    for (int i = 0; i < n; i++)
        if (tensor_device(in[i]) == DEV_CUDA) device = DEV_CUDA;
    for (int i = 0; i < n; i++) {
        in[i] = as_beside(in[i], device);
        if (op->wide) in[i] = as_f32(in[i]);
    }
    if (as_activations(in + op->condition, n - op->condition) < 0) return scope_end(scope, 0);
    if (op->condition && !(in[0] = as_dtype(in[0], tensor_dtype(in[1]))))
        return scope_end(scope, 0);
    pointwise_attr attr = {{(float)p0, (float)p1}};
    cnn_tensor *y = output_for(in, n, size, nd);
    return scope_end(scope, tape_append1(&op->op, in, n, y, &attr, sizeof attr));
}

/* ------------------------------------------------------------------------------------- gradients
 * Each emits ops; x, a, b are the inputs, y the output, dy its gradient. */

cnn_tensor *sum_to(cnn_tensor *dy, const cnn_tensor *like) {
    int axes[CNN_MAX_DIM], n = 0;
    if (!dy || tensor_same_shape(dy, like)) return dy;
    for (int i = 0; i < dy->nd; i++) {
        int a = i - (dy->nd - like->nd);
        if (a < 0 || (like->size[a] == 1 && dy->size[i] != 1)) axes[n++] = i + 1;
    }
    if (n) dy = cnn_sum(dy, axes, n);
    return dy ? cnn_view(dy, like->size, like->nd) : 0;
}

#define GRADIENT(name)                                                                             \
    static int name##_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx)
#define WANT(i, value)                                                                             \
    if (entry_wants(e, i)) dx[i] = sum_to(value, e->in[i])
#define A  e->in[0]
#define B  e->in[1]
#define Y  e->out[0]
#define DY dy[0]

static cnn_tensor *constant(double v, const cnn_tensor *like) {
    return cnn_full(0, 0, v, "f32", cnn_device(like));
}

static const pointwise tanh_grad, sigmoid_grad, relu_grad, leaky_relu_grad, gelu_grad, silu_grad,
    clamp_grad;

static cnn_tensor *apply2(const pointwise *op, cnn_tensor *a, cnn_tensor *b, cnn_entry *e) {
    const pointwise_attr *attr = entry_attr(e);
    return apply(op, a, b, 0, 2, attr->p[0], attr->p[1]);
}

GRADIENT(add) {
    WANT(0, DY);
    WANT(1, DY);
    return 0;
}
GRADIENT(sub) {
    WANT(0, DY);
    WANT(1, cnn_neg(DY));
    return 0;
}
GRADIENT(mul) {
    WANT(0, cnn_mul(DY, B));
    WANT(1, cnn_mul(DY, A));
    return 0;
}
GRADIENT(div) { /* d/db a/b = -y/b */
    WANT(0, cnn_div(DY, B));
    WANT(1, cnn_neg(cnn_mul(DY, cnn_div(Y, B))));
    return 0;
}
GRADIENT(pow) { /* b a^(b-1), 0 where b is 0; y ln a, 0 where a is 0 and b is not below it */
    cnn_tensor *zero = constant(0, DY);
    WANT(0, cnn_mul(DY, cnn_where(cnn_eq(B, zero), zero,
                                  cnn_mul(B, cnn_pow(A, cnn_affine(B, 1, -1))))));
    cnn_tensor *flat = cnn_mul(cnn_eq(A, zero), cnn_ge(B, zero));
    WANT(1, cnn_mul(DY, cnn_where(flat, zero, cnn_mul(Y, cnn_log(A)))));
    return 0;
}

GRADIENT(square) { /* its two inputs are one tensor: the first gets the whole gradient */
    dx[0] = cnn_mul(DY, cnn_affine(A, 2, 0));
    return 0;
}

/* The share of dy that goes to the operand `mine` of a maximum or minimum: half at a tie. */
static cnn_tensor *extreme_share(cnn_tensor *dy, cnn_tensor *mine, cnn_tensor *other,
                                 cnn_tensor *(*wins)(cnn_tensor *, cnn_tensor *)) {
    cnn_tensor *share = cnn_add(wins(mine, other), cnn_affine(cnn_eq(mine, other), 0.5, 0));
    return cnn_mul(dy, share);
}
GRADIENT(maximum) {
    WANT(0, extreme_share(DY, A, B, cnn_gt));
    WANT(1, extreme_share(DY, B, A, cnn_gt));
    return 0;
}
GRADIENT(minimum) {
    WANT(0, extreme_share(DY, A, B, cnn_lt));
    WANT(1, extreme_share(DY, B, A, cnn_lt));
    return 0;
}
GRADIENT(where) {
    cnn_tensor *zero = constant(0, DY);
    WANT(1, cnn_where(A, DY, zero));
    WANT(2, cnn_where(A, zero, DY));
    return 0;
}
GRADIENT(neg) {
    dx[0] = cnn_neg(DY);
    (void)e;
    return 0;
}
GRADIENT(exp) {
    dx[0] = cnn_mul(DY, Y);
    return 0;
}
GRADIENT(log) {
    dx[0] = cnn_div(DY, A);
    return 0;
}
GRADIENT(sqrt) {
    dx[0] = cnn_div(DY, cnn_affine(Y, 2, 0));
    return 0;
}
GRADIENT(abs) {
    dx[0] = cnn_mul(DY, cnn_sign(A));
    return 0;
}
GRADIENT(sign) {
    dx[0] = cnn_full_like(DY, 0);
    (void)e;
    return 0;
}
GRADIENT(affine) {
    const pointwise_attr *attr = entry_attr(e);
    dx[0] = cnn_affine(DY, attr->p[0], 0);
    return 0;
}

/* Activations have a fused gradient kernel that takes dy and the saved value. */
#define FUSED(name, saved)                                                                         \
    GRADIENT(name) {                                                                               \
        dx[0] = apply2(&name##_grad, DY, saved, e);                                                \
        return 0;                                                                                  \
    }
FUSED(tanh, Y)
FUSED(sigmoid, Y)
FUSED(relu, Y)
FUSED(leaky_relu, A)
FUSED(gelu, A)
FUSED(silu, A)
FUSED(clamp, A)

/* ------------------------------------------------------------------------------------- the list
 * name, gradient, which inputs it needs, whether it needs the output */

enum { ANY_INPUT = 7 }; /* for reuses_in: the kernels read an element before they write it */

#define POINTWISE_OP(which, gradient_of, in, out, ...)                                             \
    static const pointwise op_##which = {{.name = #which,                                          \
                                          .run = pointwise_run,                                    \
                                          .gradient = gradient_of,                                 \
                                          .saves_in = in,                                          \
                                          .saves_out = out,                                        \
                                          .reuses_in = ANY_INPUT,                                  \
                                          .strided = 1},                                           \
                                         offsetof(k_table, which),                                 \
                                         __VA_ARGS__};
#define POINTWISE(which, gradient_of, in, out) POINTWISE_OP(which, gradient_of, in, out, .wide = 0)
#define WIDE(which, gradient_of, in, out)      POINTWISE_OP(which, gradient_of, in, out, .wide = 1)
POINTWISE(add, add_gradient, 0, 0)
POINTWISE(sub, sub_gradient, 0, 0)
POINTWISE(mul, mul_gradient, 3, 0)
POINTWISE(div, div_gradient, 2, 1)
POINTWISE(pow, pow_gradient, 3, 1)
static const pointwise op_square = {
    {.name = "power", .run = pointwise_run, .gradient = square_gradient, .saves_in = 1},
    .slot = offsetof(k_table, mul)};
POINTWISE(maximum, maximum_gradient, 3, 0)
POINTWISE(minimum, minimum_gradient, 3, 0)
WIDE(eq, 0, 0, 0)
WIDE(ne, 0, 0, 0)
WIDE(lt, 0, 0, 0)
WIDE(le, 0, 0, 0)
WIDE(gt, 0, 0, 0)
WIDE(ge, 0, 0, 0)
POINTWISE_OP(where, where_gradient, 1, 0, .condition = 1)
POINTWISE(neg, neg_gradient, 0, 0)
POINTWISE(exp, exp_gradient, 0, 1)
POINTWISE(log, log_gradient, 1, 0)
POINTWISE(sqrt, sqrt_gradient, 0, 1)
POINTWISE(abs, abs_gradient, 1, 0)
POINTWISE(sign, sign_gradient, 0, 0)
POINTWISE(tanh, tanh_gradient, 0, 1)
POINTWISE(sigmoid, sigmoid_gradient, 0, 1)
POINTWISE(relu, relu_gradient, 0, 1)
POINTWISE(leaky_relu, leaky_relu_gradient, 1, 0)
POINTWISE(gelu, gelu_gradient, 1, 0)
POINTWISE(silu, silu_gradient, 1, 0)
POINTWISE(clamp, clamp_gradient, 1, 0)
POINTWISE(affine, affine_gradient, 0, 0)

const cnn_op *const relu_op = &op_relu.op, *const add_op = &op_add.op;

#define FUSED_GRADIENT(which)                                                                      \
    static const pointwise which = {                                                               \
        {.name = #which, .run = pointwise_run, .reuses_in = ANY_INPUT, .strided = 1},              \
        .slot = offsetof(k_table, which)};
FUSED_GRADIENT(tanh_grad)
FUSED_GRADIENT(sigmoid_grad)
FUSED_GRADIENT(relu_grad)
FUSED_GRADIENT(leaky_relu_grad)
FUSED_GRADIENT(gelu_grad)
FUSED_GRADIENT(silu_grad)
FUSED_GRADIENT(clamp_grad)

#define BINARY(name)                                                                               \
    cnn_tensor *cnn_##name(cnn_tensor *a, cnn_tensor *b) {                                         \
        return apply(&op_##name, a, b, 0, 2, 0, 0);                                                \
    }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(pow)
BINARY(maximum)
BINARY(minimum)
BINARY(eq)
BINARY(ne)
BINARY(lt)
BINARY(le)
BINARY(gt)
BINARY(ge)

cnn_tensor *cnn_power(cnn_tensor *x, double p) {
    if (p == 2) return apply(&op_square, x, x, 0, 2, 0, 0);
    if (p == 0.5) return cnn_sqrt(x);
    int scope = scope_begin();
    if (check_tensor("power", "x", x) < 0) return scope_end(scope, 0);
    return scope_end(scope, cnn_pow(x, constant(p, x)));
}

cnn_tensor *cnn_where(cnn_tensor *cond, cnn_tensor *a, cnn_tensor *b) {
    return apply(&op_where, cond, a, b, 3, 0, 0);
}

#define UNARY(name)                                                                                \
    cnn_tensor *cnn_##name(cnn_tensor *x) { return apply(&op_##name, x, 0, 0, 1, 0, 0); }
UNARY(neg)
UNARY(exp)
UNARY(log)
UNARY(sqrt)
UNARY(abs)
UNARY(sign)
UNARY(tanh)
UNARY(sigmoid)
UNARY(relu)
UNARY(gelu)
UNARY(silu)

cnn_tensor *cnn_leaky_relu(cnn_tensor *x, double slope) {
    if (!isfinite(slope)) return fail_null("leaky_relu: expected a finite slope, got %g", slope);
    return apply(&op_leaky_relu, x, 0, 0, 1, slope, 0);
}

cnn_tensor *cnn_clamp(cnn_tensor *x, double lo, double hi) {
    if (!(lo <= hi)) return fail_null("clamp: expected lo <= hi, got %g and %g", lo, hi);
    return apply(&op_clamp, x, 0, 0, 1, lo, hi);
}

cnn_tensor *cnn_affine(cnn_tensor *x, double scale, double shift) {
    return apply(&op_affine, x, 0, 0, 1, scale, shift);
}
