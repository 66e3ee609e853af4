/* op_reduce.c - sums, means, extremes over any axes.
 *
 * Reduced axes stay with size 1, so that the result broadcasts against what it came from; over no
 * given axes everything is reduced to a single number.
 *
 * Surprising: mean is a sum and a multiplication, norm is sums and roots: only what a formula
 * cannot say well (var in two passes, the extremes) has a kernel and a gradient of its own. */
#include "core.h"

#include <math.h>
#include <string.h>

typedef struct {
    cnn_op op;
    size_t slot;
} reduction;

typedef struct {
    int axes[CNN_MAX_DIM]; /* from 1, as given */
    int n;
    unsigned reduced; /* bit a: axis a is reduced */
    int64_t count;    /* elements folded into one */
} reduce_attr;

/* Appends one dim to a list, merged with the one before where the strides allow it. */
static void dim_add(int *n, int64_t *size, int64_t *s0, int64_t *s1, int64_t count, int64_t t0,
                    int64_t t1) {
    if (count == 1) return;
    if (*n && s0[*n - 1] == t0 * count && s1[*n - 1] == t1 * count)
        size[*n - 1] *= count;
    else
        size[(*n)++] = count;
    s0[*n - 1] = t0;
    s1[*n - 1] = t1;
}

static void reduce_make(k_reduce *r, const cnn_tensor *x, const cnn_tensor *y,
                        const reduce_attr *attr) {
    int64_t unused[CNN_MAX_DIM];
    memset(r, 0, sizeof *r);
    for (int a = 0; a < x->nd; a++)
        if (attr->reduced >> a & 1)
            dim_add(&r->nr, r->rsize, r->rx, unused, x->size[a], x->stride[a], x->stride[a]);
        else
            dim_add(&r->nk, r->ksize, r->kx, r->sy, x->size[a], x->stride[a],
                    y->nd ? y->stride[a] : 0);
    if (!r->nk) r->ksize[r->nk++] = 1;
    if (!r->nr) r->rsize[r->nr++] = 1;
}

static int reduce_run(cnn_entry *e) {
    const reduction *op = (const reduction *)e->op;
    const reduce_attr *attr = entry_attr(e);
    cnn_tensor *x = e->in[0], *y = e->out[0];
    if (attr->count == 0) { /* nothing to fold: the sum is 0, the variance undefined */
        storage_set(y->storage, 0, y->storage->count, op->slot == offsetof(k_table, sum) ? 0 : NAN);
        return 0;
    }
    if (tensor_numel(y) == 0) return 0;
    k_reduce r;
    reduce_make(&r, x, y, attr);
    const k_table *k = entry_kernels(e);
    int64_t bytes = k->reduce_scratch(&r);
    void *scratch = bytes ? entry_scratch(e, bytes) : 0;
    if (bytes && !scratch) return -1;
    k_reduction *kernel;
    memcpy(&kernel, (const char *)k + op->slot, sizeof kernel);
    kernel(&r, tensor_f32(y), tensor_f32(x), scratch);
    return 0;
}

static int read_axes(const char *op, const cnn_tensor *x, const int *axes, int n,
                     reduce_attr *attr) {
    *attr = (reduce_attr){.count = 1};
    if (n > CNN_MAX_DIM) return fail("%s: expected at most %d axes, got %d", op, x->nd, n);
    for (int i = 0; i < n; i++) {
        int a = check_axis(op, x, axes[i]);
        if (a < 0) return -1;
        if (attr->reduced >> a & 1) return fail("%s: axis %d is given twice", op, axes[i]);
        attr->reduced |= 1u << a;
        attr->axes[attr->n++] = a + 1;
    }
    if (n == 0) attr->reduced = (1u << x->nd) - 1;
    for (int a = 0; a < x->nd; a++)
        if (attr->reduced >> a & 1) attr->count *= x->size[a];
    return 0;
}

static const reduction op_sum;

static cnn_tensor *reduce(const reduction *op, cnn_tensor *x, const int *axes, int n) {
    int scope = scope_begin();
    reduce_attr attr;
    if (check_tensor(op->op.name, "x", x) < 0 || read_axes(op->op.name, x, axes, n, &attr) < 0)
        return scope_end(scope, 0);
    if (attr.count == 0 && op->slot != offsetof(k_table, sum) && op->slot != offsetof(k_table, var))
        return scope_end(scope,
                         fail_null("%s: expected at least one element to choose from, got %s",
                                   op->op.name, shape_text(x)));
    int64_t size[CNN_MAX_DIM];
    for (int a = 0; a < x->nd; a++) size[a] = attr.reduced >> a & 1 ? 1 : x->size[a];
    x = op == &op_sum ? as_activation(x) : as_f32(x); /* sums are f32 in any case */
    if (!x) return scope_end(scope, 0);
    cnn_tensor *y = tensor_new(size, n ? x->nd : 0, K_F32, tensor_device(x));
    return scope_end(scope, tape_append1(&op->op, &x, 1, y, &attr, sizeof attr));
}

/* ------------------------------------------------------------------------------------ gradients */

static int sum_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const cnn_tensor *x = e->in[0];
    cnn_tensor *g = x->narrow ? as_dtype(dy[0], K_BF16) : dy[0]; /* while it is small */
    dx[0] = cnn_expand(g, x->size, x->nd);
    return 0;
}

/* d var / dx = 2 (x - mean) / count */
static int var_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const reduce_attr *attr = entry_attr(e);
    cnn_tensor *x = e->in[0];
    dx[0] = cnn_mul(cnn_affine(dy[0], 2.0 / (double)attr->count, 0),
                    cnn_sub(x, cnn_mean(x, attr->axes, attr->n)));
    return 0;
}

/* Shared among those that are equal to the extreme. */
static int extreme_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const reduce_attr *attr = entry_attr(e);
    cnn_tensor *equal = cnn_eq(e->in[0], e->out[0]);
    dx[0] = cnn_mul(equal, cnn_div(dy[0], cnn_sum(equal, attr->axes, attr->n)));
    return 0;
}

#define REDUCTION(which, gradient_of, in, out)                                                     \
    static const reduction op_##which = {{.name = #which,                                          \
                                          .run = reduce_run,                                       \
                                          .gradient = gradient_of,                                 \
                                          .saves_in = in,                                          \
                                          .saves_out = out,                                        \
                                          .strided = 1},                                           \
                                         offsetof(k_table, which)};
REDUCTION(sum, sum_gradient, 0, 0)
REDUCTION(var, var_gradient, 1, 0)
REDUCTION(max, extreme_gradient, 1, 1)
REDUCTION(min, extreme_gradient, 1, 1)
REDUCTION(argmax, 0, 0, 0)

/* -------------------------------------------------------------------------------------- public */

cnn_tensor *cnn_sum(cnn_tensor *x, const int *axes, int n) { return reduce(&op_sum, x, axes, n); }
cnn_tensor *cnn_var(cnn_tensor *x, const int *axes, int n) { return reduce(&op_var, x, axes, n); }
cnn_tensor *cnn_max(cnn_tensor *x, const int *axes, int n) { return reduce(&op_max, x, axes, n); }
cnn_tensor *cnn_min(cnn_tensor *x, const int *axes, int n) { return reduce(&op_min, x, axes, n); }

cnn_tensor *cnn_mean(cnn_tensor *x, const int *axes, int n) {
    int scope = scope_begin();
    reduce_attr attr;
    if (check_tensor("mean", "x", x) < 0 || read_axes("mean", x, axes, n, &attr) < 0)
        return scope_end(scope, 0);
    return scope_end(scope, cnn_affine(cnn_sum(x, axes, n), 1.0 / (double)attr.count, 0));
}

/* sqrt(s + [s = 0]) - [s = 0] is sqrt(s), with gradient 0 instead of NaN at 0. */
cnn_tensor *cnn_norm(cnn_tensor *x, const int *axes, int n) {
    int scope = scope_begin();
    if (check_tensor("norm", "x", x) < 0) return scope_end(scope, 0);
    cnn_tensor *s = cnn_sum(cnn_power(as_f32(x), 2), axes, n);
    cnn_tensor *is_zero = s ? cnn_eq(s, cnn_full(0, 0, 0, "f32", cnn_device(s))) : 0;
    return scope_end(scope, cnn_sub(cnn_sqrt(cnn_add(s, is_zero)), is_zero));
}

enum { MAX_INDEX = 1 << 24 };

cnn_tensor *cnn_argmax(cnn_tensor *x, int axis) {
    int scope = scope_begin();
    if (check_tensor("argmax", "x", x) < 0) return scope_end(scope, 0);
    int a = check_axis("argmax", x, axis);
    if (a < 0) return scope_end(scope, 0);
    if (x->size[a] > MAX_INDEX)
        return scope_end(scope, fail_null("argmax: expected at most %d elements to choose from, "
                                          "which a float can count, got %s",
                                          MAX_INDEX, shape_text(x)));
    cnn_tensor *y = cnn_affine(reduce(&op_argmax, x, &axis, 1), 1, 1); /* positions from 1 */
    return scope_end(scope, cnn_to(y, "i32"));
}
