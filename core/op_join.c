/* op_join.c - values put beside each other: cat, stack, pad; and written in place: copy, fill.
 *
 * The output of cat is channels-last when an input of it is, so that a concatenation of channels is
 * one strided copy an input, or none, where layout.c has had it made in its place.
 *
 * Surprising: the gradient of cat is a narrow, that is, a view: DenseNet's concatenations cost
 * nothing on the way back. A write in place is refused where a gradient would have to follow it;
 * what was saved for a gradient before is protected by versions instead (backward.c). */
#include "core.h"

#include <string.h>

/* The part of y from `start` (from 0) that has x's size along `axis`; x itself elsewhere. */
static cnn_tensor part_of(const cnn_tensor *y, int axis, int64_t start, int64_t length) {
    cnn_tensor part = *y;
    part.offset += start * y->stride[axis];
    part.size[axis] = length;
    return part;
}

/* ------------------------------------------------------------------------------------------- cat
 */

int cat_axis(cnn_entry *e) {
    int axis;
    memcpy(&axis, entry_attr(e), sizeof axis);
    return axis;
}

/* layout.c had x made there. */
static int is_in_place(const cnn_tensor *x, const cnn_tensor *part) {
    return x->storage == part->storage && x->offset == part->offset &&
           !memcmp(x->stride, part->stride, sizeof x->stride);
}

static int cat_run(cnn_entry *e) {
    int axis = cat_axis(e);
    int64_t start = 0;
    for (int i = 0; i < e->n_in; i++) {
        int64_t length = e->in[i]->size[axis];
        cnn_tensor part = part_of(e->out[0], axis, start, length);
        if (!is_in_place(e->in[i], &part)) copy_values(entry_kernels(e), &part, e->in[i]);
        start += length;
    }
    return 0;
}

static int cat_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    int axis = cat_axis(e);
    int64_t start = 1;
    for (int i = 0; i < e->n_in; i++) {
        int64_t length = e->in[i]->size[axis];
        if (entry_wants(e, i)) dx[i] = cnn_narrow(dy[0], axis + 1, start, length);
        start += length;
    }
    return 0;
}

static const cnn_op op_cat = {
    .name = "cat", .run = cat_run, .gradient = cat_gradient, .strided = 1};
const cnn_op *const cat_op = &op_cat;

/* Sizes of the whole; -1 with an error when the parts do not fit. */
static int cat_size(const char *op, cnn_tensor *const *list, int n, int a, int64_t *size) {
    memcpy(size, list[0]->size, sizeof list[0]->size);
    for (int i = 1; i < n; i++) {
        int same = list[i]->nd == list[0]->nd;
        for (int d = 0; same && d < list[0]->nd; d++) same = d == a || list[i]->size[d] == size[d];
        if (!same)
            return fail("%s: expected tensors that differ in axis %d only, got %s and %s", op,
                        a + 1, shape_text(list[0]), shape_text(list[i]));
        if (__builtin_add_overflow(size[a], list[i]->size[a], &size[a]))
            return fail("%s: expected sizes along axis %d whose sum fits", op, a + 1);
    }
    return 0;
}

static cnn_tensor *cat(cnn_tensor *const *list, int n, int axis, cnn_tensor **part) {
    if (n < 1) return fail_null("cat: expected a list of tensors, got none");
    for (int i = 0; i < n; i++)
        if (check_tensor("cat", "a tensor of the list", list[i]) < 0) return 0;
    int64_t size[CNN_MAX_DIM];
    int a = check_axis("cat", list[0], axis), channels_last = 0, meta = 0;
    if (a < 0 || cat_size("cat", list, n, a, size) < 0) return 0;
    for (int i = 0; i < n; i++) {
        part[i] = list[i];
        meta |= tensor_device(part[i]) == DEV_META;
        channels_last |= tensor_is_channels_last(part[i]);
    }
    if (as_activations(part, n) < 0) return 0;
    k_dtype dtype = tensor_dtype(part[0]);
    cnn_dev device = meta ? DEV_META : tensor_device(list[0]);
    cnn_tensor *y = channels_last ? tensor_new_channels_last(size, dtype, device)
                                  : tensor_new(size, list[0]->nd, dtype, device);
    return tape_append1(&op_cat, part, n, y, &a, sizeof a);
}

enum { MAX_JOINED = 4096 };

cnn_tensor *cnn_cat(cnn_tensor *const *list, int n, int axis) {
    int scope = scope_begin();
    cnn_tensor *part[MAX_JOINED];
    if (n > MAX_JOINED)
        return scope_end(scope,
                         fail_null("cat: expected at most %d tensors, got %d", MAX_JOINED, n));
    return scope_end(scope, cat(list, n, axis, part));
}

cnn_tensor *cnn_stack(cnn_tensor *const *list, int n, int axis) {
    int scope = scope_begin();
    cnn_tensor *raised[MAX_JOINED];
    if (n > MAX_JOINED)
        return scope_end(scope,
                         fail_null("stack: expected at most %d tensors, got %d", MAX_JOINED, n));
    for (int i = 0; i < n; i++) {
        if (check_tensor("stack", "a tensor of the list", list[i]) < 0) return scope_end(scope, 0);
        if (!tensor_same_shape(list[i], list[0]))
            return scope_end(scope, fail_null("stack: expected tensors of one shape, got %s and %s",
                                              shape_text(list[0]), shape_text(list[i])));
        if (!(raised[i] = cnn_unsqueeze(list[i], axis))) return scope_end(scope, 0);
    }
    return scope_end(scope, cnn_cat(raised, n, axis));
}

/* ------------------------------------------------------------------------------------------- pad
 */

typedef struct {
    int64_t before[CNN_MAX_DIM];
    float value;
} pad_attr;

static int pad_run(cnn_entry *e) {
    const pad_attr *attr = entry_attr(e);
    cnn_tensor *y = e->out[0], part = *y;
    storage_set(y->storage, 0, y->storage->count, attr->value);
    for (int a = 0; a < y->nd; a++) part = part_of(&part, a, attr->before[a], e->in[0]->size[a]);
    copy_values(entry_kernels(e), &part, e->in[0]);
    return 0;
}

static int pad_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const pad_attr *attr = entry_attr(e);
    dx[0] = dy[0];
    for (int a = 0; a < e->in[0]->nd && dx[0]; a++)
        if (e->in[0]->size[a] != dx[0]->size[a])
            dx[0] = cnn_narrow(dx[0], a + 1, attr->before[a] + 1, e->in[0]->size[a]);
    return 0;
}

static const cnn_op op_pad = {.name = "pad", .run = pad_run, .gradient = pad_gradient};

cnn_tensor *cnn_pad(cnn_tensor *x, const int64_t *sizes, int n, double value) {
    int scope = scope_begin();
    int64_t size[CNN_MAX_DIM];
    pad_attr attr;
    memset(&attr, 0, sizeof attr); /* its padding too: recorded steps are compared by it */
    attr.value = (float)value;
    if (check_tensor("pad", "x", x) < 0) return scope_end(scope, 0);
    if (n % 2 || n > 2 * x->nd)
        return scope_end(scope, fail_null("pad: expected up to %d pairs (before, after) for %s, "
                                          "got %d numbers",
                                          x->nd, shape_text(x), n));
    memcpy(size, x->size, sizeof size);
    for (int i = 0; i < n / 2; i++) {
        int a = x->nd - 1 - i;
        int64_t before = sizes[2 * i], after = sizes[2 * i + 1];
        if (before < 0 || after < 0 || before > INT32_MAX || after > INT32_MAX)
            return scope_end(scope, fail_null("pad: expected paddings from 0, got %lld and %lld "
                                              "(narrow takes away)",
                                              (long long)before, (long long)after));
        attr.before[a] = before;
        size[a] += before + after;
    }
    if (!(x = as_activation(x))) return scope_end(scope, 0);
    k_dtype dtype = tensor_dtype(x);
    cnn_tensor *y = tensor_is_channels_last(x)
                        ? tensor_new_channels_last(size, dtype, tensor_device(x))
                        : tensor_new(size, x->nd, dtype, tensor_device(x));
    return scope_end(scope, tape_append1(&op_pad, &x, 1, y, &attr, sizeof attr));
}

/* -------------------------------------------------------------------------------------- in place
 */

static int fill_run(cnn_entry *e) {
    double value;
    memcpy(&value, entry_attr(e), sizeof value);
    cnn_tensor *x = e->out[0];
    if (tensor_same_dense_layout(x, x)) {
        storage_set(x->storage, x->offset, tensor_numel(x), value);
        return 0;
    }
    int bytes = dtype_bytes[tensor_dtype(x)];
    char number[4];
    cnn_storage one = {.refs = 1, .count = 1, .device = tensor_device(x), .dtype = tensor_dtype(x)};
    if (!(one.data = entry_scratch(e, sizeof number))) return -1;
    element_of(one.dtype, value, number);
    entry_kernels(e)->fill(1, bytes, number, one.data);
    cnn_tensor constant = {.storage = &one};
    copy_values(entry_kernels(e), x, &constant);
    return 0;
}

static const cnn_op op_fill = {.name = "fill", .run = fill_run};
static const cnn_op op_copy = {.name = "copy", .run = copy_run};

/* No gradient may be lost by writing to x. */
static int check_writable(const char *op, const cnn_tensor *x) {
    if (check_tensor(op, "x", x) < 0) return -1;
    if (x->requires_grad && cnn_grad_enabled())
        return fail("%s: cannot write in place to a tensor that requires a gradient; do it inside "
                    "cnn.no_grad",
                    op);
    return 0;
}

int cnn_fill(cnn_tensor *x, double value) {
    int scope = scope_begin();
    int rc = check_writable("fill", x);
    if (!rc) rc = tape_append_inplace(&op_fill, 0, 0, &x, 1, &value, sizeof value);
    scope_end(scope, 0);
    return rc;
}

/* Whether `from` stretches to x. */
static int stretches(const cnn_tensor *from, const cnn_tensor *x) {
    if (from->nd > x->nd) return 0;
    for (int a = 0; a < from->nd; a++)
        if (from->size[a] != 1 && from->size[a] != x->size[a + x->nd - from->nd]) return 0;
    return 1;
}

int cnn_copy(cnn_tensor *x, cnn_tensor *from) {
    int scope = scope_begin();
    int rc = check_writable("copy", x);
    if (!rc) rc = check_tensor("copy", "the source", from);
    if (!rc && tensor_device(from) == DEV_META && tensor_device(x) != DEV_META)
        rc = fail("copy: a tensor on device meta has a shape (%s) but no value", shape_text(from));
    if (!rc && !stretches(from, x))
        rc = fail("copy: expected a source that stretches to %s, got %s", shape_text(x),
                  shape_text(from));
    if (!rc && from->requires_grad && cnn_grad_enabled())
        rc = fail("copy: the source's gradient would be lost; copy from:detach(), or do it inside "
                  "cnn.no_grad");
    if (!rc && tensor_device(x) != DEV_META && tensor_device(from) != tensor_device(x))
        rc = (from = cnn_to(from, cnn_device(x))) ? 0 : -1;
    if (!rc && tensor_dtype(from) != tensor_dtype(x))
        rc = (from = cnn_to(from, dtype_names[tensor_dtype(x)])) ? 0 : -1;
    if (!rc && from->storage == x->storage) /* they may overlap */
        rc = (from = cnn_clone(from)) ? 0 : -1;
    if (!rc) rc = tape_append_inplace(&op_copy, &from, 1, &x, 1, 0, 0);
    scope_end(scope, 0);
    return rc;
}
