/* layers.h - what the ops of the layers share: windows over pictures, matrices of pixels, checks.
 *
 * Contract: as in core.h. check_* answer 0, or -1 with the error set; what as_* answer belongs to
 * the scope, and NULL passes through them.
 *
 * Surprising: an op reads row strides when it runs, not when it is recorded: a plan may lay out its
 * output as a slice of a larger matrix. */
#ifndef CNN_LAYERS_H
#define CNN_LAYERS_H

#include "core.h"

/* A window that slides over the last two axes of N C H W: kernel, stride, padding, dilation. */
typedef struct {
    int64_t kh, kw, sh, sw, ph, pw, dh, dw;
} window;

/* Checks the window and that x has room for it; *oh, *ow get the number of its places. */
int check_window(const char *op, const cnn_tensor *x, const window *v, int64_t *oh, int64_t *ow);
/* Checks a further tensor of an op on x: given, alive, on x's device or either of them on meta. */
int check_beside(const char *op, const cnn_tensor *x, const char *what, const cnn_tensor *other);
/* The same, of these sizes, or absent (NULL). */
int check_sizes(const char *op, const cnn_tensor *x, const char *what, const cnn_tensor *other,
                const int64_t *size, int nd);
/* The product of the factors, or -1 with an error when it is past 2^63. */
int64_t check_macs(const char *op, const int64_t *factor, int n);

/* Elements from a row of a matrix of pixels to the next: x is what as_channels_last answered. */
int64_t row_stride(const cnn_tensor *x);
/* A new matrix of pixels, N C H W or N C. */
cnn_tensor *new_channels_last(const int64_t *size, int nd, k_dtype dtype, cnn_dev device);
/* x as a matrix of pixels without holes between the rows. */
cnn_tensor *as_dense_channels_last(cnn_tensor *x);
/* Whether x is stored without holes, row-major or channels-last. */
int is_packed(const cnn_tensor *x);
/* x stored as `like` is, which is packed; a copy is emitted when it is not. */
cnn_tensor *as_stored(cnn_tensor *x, const cnn_tensor *like);
/* x as dense f32, NULL for NULL: a bias, a gamma. */
cnn_tensor *as_vector(cnn_tensor *x);
/* x as products and convolutions take it: bf16 on a device that computes with that, else f32. */
cnn_tensor *as_operand(cnn_tensor *x);
/* Whole numbers 1 .. limit of any dtype as i32 from 0, checked when they have values; `what` names
 * one of them in the error ("label"). op and what must be literals. */
cnn_tensor *as_positions(const char *op, const char *what, cnn_tensor *x, int64_t limit);

#endif
