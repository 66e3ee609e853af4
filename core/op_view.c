/* op_view.c - other shapes on the same memory, and copies into a layout.
 *
 * A view has no kernel: it is a tensor with other sizes, strides and offset on the same storage,
 * and an entry only when a gradient must find its way back. view and reshape are one op: they share
 * the memory where the strides allow it and copy where they do not.
 *
 * Surprising: a cast to whole numbers ends the graph, one to bf16 or f32 passes the gradient on. */
#include "core.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------ copies of values
 */

void copy_values(const k_table *k, const cnn_tensor *y, const cnn_tensor *x) {
    static const float none[2] = {0};
    k_loop l;
    loop_make(&l, y, x, 0, 0);
    int bytes = dtype_bytes[tensor_dtype(y)];
    int narrow = k == narrow_kernels_of(tensor_device(y));
    if (bytes == 4 || narrow) { /* i32 too: a copy does not look at the bits */
        k->copy(&l, tensor_f32(y), tensor_f32(x), 0, 0, none);
        return;
    }
    k->elements(&l, bytes, tensor_ptr(x), tensor_ptr(y));
}

int copy_run(cnn_entry *e) {
    copy_values(entry_kernels(e), e->out[0], e->in[0]);
    return 0;
}

static int copy_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    (void)e;
    dx[0] = dy[0];
    return 0;
}

static const cnn_op op_contiguous = {
    .name = "contiguous", .run = copy_run, .gradient = copy_gradient};
static const cnn_op op_channels_last = {
    .name = "channels_last", .run = copy_run, .gradient = copy_gradient};
static const cnn_op op_clone = {.name = "clone", .run = copy_run, .gradient = copy_gradient};

cnn_tensor *as_dense(cnn_tensor *x) {
    if (!x || tensor_is_dense(x)) return x;
    cnn_tensor *y = tensor_new(x->size, x->nd, tensor_dtype(x), tensor_device(x));
    return tape_append1(&op_contiguous, &x, 1, y, 0, 0);
}

cnn_tensor *as_channels_last(cnn_tensor *x) {
    int64_t ld;
    if (!x || tensor_is_pixels(x, &ld)) return x;
    if (x->nd != 4) return as_dense(x);
    cnn_tensor *y = tensor_new_channels_last(x->size, tensor_dtype(x), tensor_device(x));
    return tape_append1(&op_channels_last, &x, 1, y, 0, 0);
}

cnn_tensor *cnn_contiguous(cnn_tensor *x) {
    int scope = scope_begin();
    if (check_tensor("contiguous", "x", x) < 0) return scope_end(scope, 0);
    return scope_end(scope, as_dense(x));
}

cnn_tensor *cnn_channels_last(cnn_tensor *x) {
    int scope = scope_begin();
    if (check_tensor("channels_last", "x", x) < 0) return scope_end(scope, 0);
    if (x->nd != 4)
        return scope_end(scope,
                         fail_null("channels_last: expected N x C x H x W, got %s", shape_text(x)));
    return scope_end(scope, as_channels_last(x));
}

cnn_tensor *cnn_clone(cnn_tensor *x) {
    int scope = scope_begin();
    if (check_tensor("clone", "x", x) < 0) return scope_end(scope, 0);
    cnn_tensor *y = tensor_new_like(x, tensor_dtype(x));
    return scope_end(scope, tape_append1(&op_clone, &x, 1, y, 0, 0));
}

cnn_tensor *cnn_detach(cnn_tensor *x) {
    int scope = scope_begin();
    if (check_tensor("detach", "x", x) < 0) return scope_end(scope, 0);
    return scope_end(scope, tensor_alias(x));
}

/* ----------------------------------------------------------------------------------------- dtype
 */

static int cast_run(cnn_entry *e) {
    const k_table *k = entry_kernels(e);
    cnn_tensor *x = e->in[0], *y = e->out[0];
    int64_t n = tensor_numel(x);
    k_dtype from = tensor_dtype(x), to = tensor_dtype(y);
    if (to == K_F32)
        k->to_f32(n, from, tensor_ptr(x), tensor_f32(y));
    else if (from == K_F32)
        k->from_f32(n, to, tensor_f32(x), tensor_ptr(y));
    else { /* by way of f32 */
        float *between = entry_scratch(e, n * (int64_t)sizeof *between);
        if (!between) return -1;
        k->to_f32(n, from, tensor_ptr(x), between);
        k->from_f32(n, to, between, tensor_ptr(y));
    }
    return 0;
}

static const cnn_op op_cast = {
    .name = "to", .run = cast_run, .gradient = copy_gradient, .casts = 1};

/* f32 to bf16: those of a net's weights are one launch, where the kernels can. */
static int narrow_casts_joins(const cnn_entry *e) {
    return entry_kernels(e)->narrow_all ? joins_equals(e) : 1;
}

static int narrow_casts_run(cnn_entry *const *list, int n) {
    static k_cast part[MOST_JOINED];
    for (int i = 0; i < n; i++) {
        const cnn_tensor *x = list[i]->in[0];
        part[i] = (k_cast){tensor_numel(x), tensor_f32(x), tensor_ptr(list[i]->out[0])};
    }
    entry_kernels(list[0])->narrow_all(n, part);
    return 0;
}

static const cnn_op op_narrow_cast = {.name = "to",
                                      .run = cast_run,
                                      .joins = narrow_casts_joins,
                                      .run_many = narrow_casts_run,
                                      .gathers = 1,
                                      .gradient = copy_gradient,
                                      .casts = 1};
static const cnn_op op_cast_whole = {.name = "to", .run = cast_run}; /* to whole numbers */

cnn_tensor *as_dtype(cnn_tensor *x, k_dtype dtype) {
    if (!x || tensor_dtype(x) == dtype) return x;
    cnn_tensor *y = dtype == K_BF16 ? pictures_narrow(x) : 0;
    if (y) return y;
    y = tensor_new_like(x, dtype);
    if (y && !tensor_same_dense_layout(x, y)) x = as_dense(x);
    if (!y || !x) return 0;
    if (!tensor_same_dense_layout(x, y)) y = tensor_new(x->size, x->nd, dtype, tensor_device(x));
    int whole = dtype == K_U8 || dtype == K_I32;
    int narrows = dtype == K_BF16 && tensor_dtype(x) == K_F32;
    const cnn_op *op = whole ? &op_cast_whole : narrows ? &op_narrow_cast : &op_cast;
    return tape_append1(op, &x, 1, y, 0, 0);
}

cnn_tensor *as_f32(cnn_tensor *x) { return as_dtype(x, K_F32); }

int is_activation(const cnn_tensor *x) { return tensor_dtype(x) == K_BF16 && is_mixed(); }

cnn_tensor *as_activation(cnn_tensor *x) { return x && is_activation(x) ? x : as_f32(x); }

int as_activations(cnn_tensor **x, int n) {
    int narrow = 0, wide = 0;
    for (int i = 0; i < n; i++) {
        if (!x[i]) return -1;
        narrow |= is_activation(x[i]);
        wide |= !is_activation(x[i]) && x[i]->nd > 0;
    }
    for (int i = 0; i < n; i++)
        if (!(x[i] = as_dtype(x[i], narrow && !wide ? K_BF16 : K_F32))) return -1;
    return 0;
}

/* -------------------------------------------------------------------------------------- device */

/* in: x, stored without holes; out: the same on another device */
static int move_run(cnn_entry *e) {
    const cnn_tensor *x = e->in[0], *y = e->out[0];
    int64_t bytes = tensor_numel(x) * dtype_bytes[tensor_dtype(x)];
    if (tensor_device(y) == DEV_CUDA)
        return card_asked("to", card()->upload(tensor_ptr(y), tensor_ptr(x), bytes));
    return card_read(tensor_ptr(y), tensor_ptr(x), bytes);
}

static cnn_tensor *move(cnn_tensor *x, cnn_dev device);

/* attr: the device that x came from */
static int move_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    cnn_dev from;
    memcpy(&from, entry_attr(e), sizeof from);
    dx[0] = move(dy[0], from);
    return dx[0] ? 0 : -1;
}

static const cnn_op op_move = {
    .name = "to", .run = move_run, .gradient = move_gradient, .moves = 1};

static cnn_tensor *move(cnn_tensor *x, cnn_dev device) {
    if (device == tensor_device(x)) return x;
    if (device == DEV_META) return tensor_new(x->size, x->nd, tensor_dtype(x), DEV_META);
    if (tensor_device(x) == DEV_META)
        return fail_null("to: a tensor on device meta has no value to move");
    if (!tensor_same_dense_layout(x, x)) x = as_dense(x);
    cnn_tensor *y = x ? tensor_alias(x) : 0; /* sizes and strides */
    cnn_tensor *whole = x ? tensor_new(x->size, x->nd, tensor_dtype(x), device) : 0;
    if (!y || !whole) return 0;
    storage_release(y->storage);
    y->storage = whole->storage;
    y->storage->refs++;
    y->offset = 0;
    cnn_dev from = tensor_device(x);
    return tape_append1(&op_move, &x, 1, y, &from, sizeof from);
}

cnn_tensor *as_beside(cnn_tensor *x, cnn_dev device) {
    if (!x || device != DEV_CUDA || tensor_device(x) != DEV_CPU || x->nd) return x;
    double value;
    if (x->requires_grad) return move(x, device);
    if (!x->storage->data && x->storage->fill == FILL_CONST)
        value = x->storage->fill_a; /* it stays a constant, which a captured step can hold */
    else if (cnn_item(x, &value) < 0)
        return 0;
    return cnn_full(0, 0, value, cnn_dtype(x), card_name());
}

cnn_tensor *as_host(cnn_tensor *x) {
    return x && tensor_device(x) == DEV_CUDA ? move(x, DEV_CPU) : x;
}

cnn_tensor *cnn_to(cnn_tensor *x, const char *where) {
    int scope = scope_begin();
    if (check_tensor("to", "x", x) < 0) return scope_end(scope, 0);
    for (int i = 0; i < K_DTYPES; i++)
        if (!strcmp(where, dtype_names[i])) return scope_end(scope, as_dtype(x, (k_dtype)i));
    int device = parse_device("to", where);
    if (device < 0) return scope_end(scope, 0);
    return scope_end(scope, move(x, (cnn_dev)device));
}

/* ----------------------------------------------------------------------------------------- views
 */

static int view_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    dx[0] = cnn_view(dy[0], e->in[0]->size, e->in[0]->nd);
    return 0;
}

static const cnn_op op_view = {.name = "view", .gradient = view_gradient};

/* Strides that show x's elements as `size`; 0, or -1 when the memory must be copied for it. */
static int view_strides(const cnn_tensor *x, const int64_t *size, int nd, int64_t *stride) {
    if (tensor_numel(x) == 0) {
        for (int i = 0; i < nd; i++) stride[i] = 1;
        return 0;
    }
    int to = nd - 1; /* axes of the view still to be given a stride, from the innermost */
    for (int a = x->nd - 1; a >= 0;) {
        int64_t run = x->size[a], base = x->stride[a]; /* a run of axes that lie as one */
        for (a--; a >= 0 && (x->size[a] == 1 || run == 1 || x->stride[a] == base * run); a--) {
            if (run == 1) base = x->stride[a];
            run *= x->size[a];
        }
        int64_t done = 1;
        while (to >= 0 && (done < run || size[to] == 1)) {
            stride[to] = base * done;
            done *= size[to--];
        }
        if (done != run) return -1;
    }
    while (to >= 0) stride[to--] = 1;
    return 0;
}

/* A view of x with these sizes and strides, `offset` elements further on. */
static cnn_tensor *view_of(const cnn_op *op, cnn_tensor *x, const int64_t *size, int nd,
                           const int64_t *stride, int64_t offset, const void *attr, size_t bytes) {
    cnn_tensor *y = tensor_alias(x);
    if (!y) return 0;
    y->nd = nd;
    memmove(y->size, size, (size_t)nd * sizeof *size);
    memmove(y->stride, stride, (size_t)nd * sizeof *stride);
    y->offset = x->offset + offset;
    return tape_append1(op, &x, 1, y, attr, bytes);
}

static cnn_tensor *reshape(const char *op, cnn_tensor *x, const int64_t *sizes, int n) {
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM], known = 1, count = tensor_numel(x);
    int open = -1;
    if (n < 0 || n > CNN_MAX_DIM)
        return fail_null("%s: expected at most %d axes, got %d", op, CNN_MAX_DIM, n);
    for (int i = 0; i < n; i++) {
        size[i] = sizes[i];
        if (sizes[i] == -1 && open < 0)
            open = i;
        else if (sizes[i] < 0 || __builtin_mul_overflow(known, sizes[i], &known))
            return fail_null("%s: expected sizes from 0 and at most one -1, got %s", op,
                             sizes_text(sizes, n));
    }
    if (open >= 0) size[open] = known > 0 ? count / known : 0;
    if (open >= 0 ? known * size[open] != count || known == 0 : known != count)
        return fail_null("%s: expected sizes for the %lld elements of %s, got %s", op,
                         (long long)count, shape_text(x), sizes_text(sizes, n));
    if (sizes_count(size, n) < 0)
        return fail_null("%s: expected sizes whose product fits, got %s", op, sizes_text(size, n));
    if (view_strides(x, size, n, stride) < 0) {
        if (!(x = as_dense(x))) return 0;
        view_strides(x, size, n, stride);
    }
    return view_of(&op_view, x, size, n, stride, 0, 0, 0);
}

cnn_tensor *cnn_view(cnn_tensor *x, const int64_t *sizes, int n) {
    int scope = scope_begin();
    if (check_tensor("view", "x", x) < 0) return scope_end(scope, 0);
    return scope_end(scope, reshape("view", x, sizes, n));
}

cnn_tensor *cnn_reshape(cnn_tensor *x, const int64_t *sizes, int n) {
    int scope = scope_begin();
    if (check_tensor("reshape", "x", x) < 0) return scope_end(scope, 0);
    return scope_end(scope, reshape("reshape", x, sizes, n));
}

/* permute: attr is the axes, from 1 */
static int permute_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    int axes[CNN_MAX_DIM], inverse[CNN_MAX_DIM];
    memcpy(axes, entry_attr(e), sizeof axes);
    for (int i = 0; i < e->in[0]->nd; i++) inverse[axes[i] - 1] = i + 1;
    dx[0] = cnn_permute(dy[0], inverse, e->in[0]->nd);
    return 0;
}

static const cnn_op op_permute = {.name = "permute", .gradient = permute_gradient};

static cnn_tensor *permute(cnn_tensor *x, const int *axis) { /* from 0, a permutation */
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM];
    int axes[CNN_MAX_DIM] = {0};
    for (int i = 0; i < x->nd; i++) {
        size[i] = x->size[axis[i]];
        stride[i] = x->stride[axis[i]];
        axes[i] = axis[i] + 1;
    }
    return view_of(&op_permute, x, size, x->nd, stride, 0, axes, sizeof axes);
}

cnn_tensor *cnn_permute(cnn_tensor *x, const int *axes, int n) {
    int scope = scope_begin(), axis[CNN_MAX_DIM];
    unsigned seen = 0;
    if (check_tensor("permute", "x", x) < 0) return scope_end(scope, 0);
    if (n != x->nd)
        return scope_end(scope, fail_null("permute: expected the %d axes of %s, got %d", x->nd,
                                          shape_text(x), n));
    for (int i = 0; i < n; i++) {
        if ((axis[i] = check_axis("permute", x, axes[i])) < 0) return scope_end(scope, 0);
        if (seen >> axis[i] & 1)
            return scope_end(scope, fail_null("permute: axis %d is given twice", axes[i]));
        seen |= 1u << axis[i];
    }
    return scope_end(scope, permute(x, axis));
}

cnn_tensor *cnn_transpose(cnn_tensor *x, int axis1, int axis2) {
    int scope = scope_begin(), axis[CNN_MAX_DIM];
    if (check_tensor("transpose", "x", x) < 0) return scope_end(scope, 0);
    int a = check_axis("transpose", x, axis1), b = check_axis("transpose", x, axis2);
    if (a < 0 || b < 0) return scope_end(scope, 0);
    for (int i = 0; i < x->nd; i++) axis[i] = i == a ? b : i == b ? a : i;
    return scope_end(scope, permute(x, axis));
}

/* narrow: attr is the axis from 0, what lies before and after */
typedef struct {
    int axis;
    int64_t before, after;
} narrow_attr;

static int narrow_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const narrow_attr *attr = entry_attr(e);
    int64_t pad[2 * CNN_MAX_DIM] = {0};
    int from_last = e->in[0]->nd - 1 - attr->axis;
    pad[2 * from_last] = attr->before;
    pad[2 * from_last + 1] = attr->after;
    dx[0] = cnn_pad(dy[0], pad, 2 * (from_last + 1), 0);
    return 0;
}

static const cnn_op op_narrow = {.name = "narrow", .gradient = narrow_gradient};

static cnn_tensor *narrow(cnn_tensor *x, int a, int64_t before, int64_t length) {
    int64_t size[CNN_MAX_DIM];
    memcpy(size, x->size, sizeof size);
    size[a] = length;
    narrow_attr attr = {a, before, x->size[a] - before - length};
    return view_of(&op_narrow, x, size, x->nd, x->stride, before * x->stride[a], &attr,
                   sizeof attr);
}

cnn_tensor *cnn_narrow(cnn_tensor *x, int axis, int64_t start, int64_t length) {
    int scope = scope_begin();
    if (check_tensor("narrow", "x", x) < 0) return scope_end(scope, 0);
    int a = check_axis("narrow", x, axis);
    if (a < 0) return scope_end(scope, 0);
    int64_t size = x->size[a];
    if (start < 1 || length < 0 || start > size + 1 || length > size - start + 1)
        return scope_end(scope, fail_null("narrow: expected start and length within 1 .. %lld of "
                                          "axis %d of %s, got start %lld, length %lld",
                                          (long long)size, axis, shape_text(x), (long long)start,
                                          (long long)length));
    return scope_end(scope, narrow(x, a, start - 1, length));
}

cnn_tensor *cnn_select(cnn_tensor *x, int axis, int64_t index) {
    int scope = scope_begin();
    if (check_tensor("select", "x", x) < 0) return scope_end(scope, 0);
    int a = check_axis("select", x, axis);
    if (a < 0) return scope_end(scope, 0);
    int64_t at = index < 0 ? index + x->size[a] : index - 1;
    if (index == 0 || at < 0 || at >= x->size[a])
        return scope_end(scope,
                         fail_null("select: expected an index from 1 to %lld on axis %d of "
                                   "%s, got %lld",
                                   (long long)x->size[a], axis, shape_text(x), (long long)index));
    cnn_tensor *y = narrow(x, a, at, 1);
    int one = a + 1;
    return scope_end(scope, y ? cnn_squeeze(y, &one, 1) : 0);
}

static int expand_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    dx[0] = sum_to(dy[0], e->in[0]);
    return 0;
}

static const cnn_op op_expand = {.name = "expand", .gradient = expand_gradient};

cnn_tensor *cnn_expand(cnn_tensor *x, const int64_t *sizes, int n) {
    int scope = scope_begin();
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM];
    if (check_tensor("expand", "x", x) < 0) return scope_end(scope, 0);
    if (n < x->nd || n > CNN_MAX_DIM)
        return scope_end(scope, fail_null("expand: expected %d to %d sizes for %s, got %d", x->nd,
                                          CNN_MAX_DIM, shape_text(x), n));
    for (int i = 0; i < n; i++) {
        int a = i - (n - x->nd);
        int64_t mine = a >= 0 ? x->size[a] : 1;
        size[i] = sizes[i] == -1 && a >= 0 ? mine : sizes[i];
        stride[i] = mine == 1 ? 0 : x->stride[a];
        if (size[i] < 0 || (mine != 1 && mine != size[i]))
            return scope_end(scope, fail_null("expand: expected sizes that %s stretches to, got %s",
                                              shape_text(x), sizes_text(sizes, n)));
    }
    if (sizes_count(size, n) < 0)
        return scope_end(scope, fail_null("expand: expected sizes whose product fits, got %s",
                                          sizes_text(size, n)));
    return scope_end(scope, view_of(&op_expand, x, size, n, stride, 0, 0, 0));
}

cnn_tensor *cnn_squeeze(cnn_tensor *x, const int *axes, int n) {
    int scope = scope_begin(), nd = 0;
    unsigned drop = 0;
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM];
    if (check_tensor("squeeze", "x", x) < 0) return scope_end(scope, 0);
    for (int i = 0; i < n; i++) {
        int a = check_axis("squeeze", x, axes[i]);
        if (a < 0) return scope_end(scope, 0);
        if (x->size[a] != 1)
            return scope_end(scope, fail_null("squeeze: expected axis %d of size 1, got %s",
                                              axes[i], shape_text(x)));
        drop |= 1u << a;
    }
    for (int a = 0; a < x->nd; a++) {
        if (n ? drop >> a & 1 : x->size[a] == 1) continue;
        size[nd] = x->size[a];
        stride[nd++] = x->stride[a];
    }
    return scope_end(scope, view_of(&op_view, x, size, nd, stride, 0, 0, 0));
}

cnn_tensor *cnn_unsqueeze(cnn_tensor *x, int axis) {
    int scope = scope_begin();
    int64_t size[CNN_MAX_DIM], stride[CNN_MAX_DIM];
    if (check_tensor("unsqueeze", "x", x) < 0) return scope_end(scope, 0);
    if (x->nd == CNN_MAX_DIM)
        return scope_end(scope, fail_null("unsqueeze: expected fewer than %d axes, got %s",
                                          CNN_MAX_DIM, shape_text(x)));
    int a = axis < 0 ? axis + x->nd + 1 : axis - 1;
    if (axis == 0 || a < 0 || a > x->nd)
        return scope_end(scope, fail_null("unsqueeze: expected an axis from 1 to %d for %s, got %d",
                                          x->nd + 1, shape_text(x), axis));
    for (int i = 0; i <= x->nd; i++) {
        size[i] = i == a ? 1 : x->size[i - (i > a)];
        stride[i] = i == a ? 1 : x->stride[i - (i > a)];
    }
    return scope_end(scope, view_of(&op_view, x, size, x->nd + 1, stride, 0, 0, 0));
}
