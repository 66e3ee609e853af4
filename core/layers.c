/* layers.c - checks and layouts that the ops of the layers share.
 *
 * Contract: layers.h. Checks allocate nothing and come before everything else in an op.
 *
 * Surprising: a padded picture may be smaller than its own padding; what counts is that a window
 * has one place. (Pooling asks for more: see op_pool.c.) */
#include "layers.h"

static int64_t span_of(int64_t k, int64_t d) { return d * (k - 1) + 1; }

static int64_t least_input(int64_t span, int64_t p) { return span > 2 * p ? span - 2 * p : 1; }

/* "3" for two equal sizes, "3x5" for others. */
static const char *pair_text(int64_t a, int64_t b) {
    return sizes_text((const int64_t[]){a, b}, a == b ? 1 : 2);
}

static int check_pair(const char *op, const char *what, int64_t a, int64_t b, int64_t least) {
    if (a >= least && b >= least && a <= INT32_MAX && b <= INT32_MAX) return 0;
    int small = a < least || b < least; /* no product of two of these overflows */
    return fail("%s: expected a %s of at %s %lld, got %s", op, what, small ? "least" : "most",
                small ? (long long)least : INT32_MAX, pair_text(a, b));
}

int check_window(const char *op, const cnn_tensor *x, const window *v, int64_t *oh, int64_t *ow) {
    if (x->nd != 4)
        return fail("%s: expected x with 4 axes (NxCxHxW), got %d axes (%s)", op, x->nd,
                    shape_text(x));
    if (check_pair(op, "kernel", v->kh, v->kw, 1) || check_pair(op, "stride", v->sh, v->sw, 1) ||
        check_pair(op, "padding", v->ph, v->pw, 0) || check_pair(op, "dilation", v->dh, v->dw, 1))
        return -1;
    int64_t h = x->size[2], w = x->size[3];
    int64_t span_h = span_of(v->kh, v->dh), span_w = span_of(v->kw, v->dw);
    int64_t need_h = least_input(span_h, v->ph), need_w = least_input(span_w, v->pw);
    if (h < need_h || w < need_w) {
        int dilated = v->dh > 1 || v->dw > 1;
        return fail("%s: expected an input of at least %s (kernel %s, padding %s%s%s), got %s", op,
                    sizes_text((const int64_t[]){need_h, need_w}, 2),
                    sizes_text((const int64_t[]){v->kh, v->kw}, 2), pair_text(v->ph, v->pw),
                    dilated ? ", dilation " : "", dilated ? pair_text(v->dh, v->dw) : "",
                    sizes_text(x->size + 2, 2));
    }
    *oh = (h + 2 * v->ph - span_h) / v->sh + 1;
    *ow = (w + 2 * v->pw - span_w) / v->sw + 1;
    return 0;
}

int check_beside(const char *op, const cnn_tensor *x, const char *what, const cnn_tensor *other) {
    if (check_tensor(op, what, other)) return -1;
    cnn_dev a = tensor_device(x), b = tensor_device(other);
    if (a == b || a == DEV_META || b == DEV_META) return 0;
    return fail("%s: expected %s on %s as x is, got %s (move one with :to)", op, what,
                cnn_device(x), cnn_device(other));
}

int check_sizes(const char *op, const cnn_tensor *x, const char *what, const cnn_tensor *other,
                const int64_t *size, int nd) {
    if (!other) return 0;
    if (check_beside(op, x, what, other)) return -1;
    int same = other->nd == nd;
    for (int i = 0; same && i < nd; i++) same = other->size[i] == size[i];
    if (same) return 0;
    return fail("%s: expected %s of shape %s, got %s", op, what, sizes_text(size, nd),
                shape_text(other));
}

int64_t check_macs(const char *op, const int64_t *factor, int n) {
    int64_t product = 1;
    for (int i = 0; i < n; i++)
        if (__builtin_mul_overflow(product, factor[i], &product))
            return fail("%s: expected fewer than 2^63 multiply-adds, got %s", op,
                        sizes_text(factor, n));
    return product;
}

/* ------------------------------------------------------------------------------------- layouts */

int64_t row_stride(const cnn_tensor *x) {
    int64_t ld;
    return tensor_is_pixels(x, &ld) ? ld : x->size[1]; /* an empty one has any strides */
}

cnn_tensor *new_channels_last(const int64_t *size, int nd, k_dtype dtype, cnn_dev device) {
    return nd == 4 ? tensor_new_channels_last(size, dtype, device)
                   : tensor_new(size, nd, dtype, device);
}

cnn_tensor *as_dense_channels_last(cnn_tensor *x) {
    x = as_channels_last(x);
    return x && row_stride(x) != x->size[1] ? cnn_clone(x) : x;
}

int is_packed(const cnn_tensor *x) {
    int64_t ld;
    if (tensor_is_dense(x)) return 1;
    return x->nd == 4 && tensor_is_pixels(x, &ld) && ld == x->size[1];
}

cnn_tensor *as_stored(cnn_tensor *x, const cnn_tensor *like) {
    if (!x || tensor_same_dense_layout(x, like)) return x;
    cnn_tensor *y = tensor_new_like(like, K_F32);
    return y && !cnn_copy(y, x) ? y : 0;
}

cnn_tensor *as_vector(cnn_tensor *x) { return x ? as_dense(as_f32(x)) : 0; }

cnn_tensor *as_operand(cnn_tensor *x) { return as_dtype(x, is_mixed() ? K_BF16 : K_F32); }
