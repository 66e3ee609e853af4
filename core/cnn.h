/* cnn.h - the public surface of the engine and the catalogue of its ops.
 *
 * Lua reads this very file: lines that start with # are dropped, the rest goes to ffi.cdef, and the
 * tensor's methods are derived from the prototypes of the catalogue (a function whose first
 * parameter is a `cnn_tensor *` becomes a method; `axes, n`, `sizes, n` and `list, n` are one Lua
 * table). So: plain C declarations only, one op a line, opaque handles.
 *
 * Contract. A function that makes a tensor returns a new handle, which its owner gives back with
 * cnn_release, or NULL; one that answers int returns 0, or -1. On failure cnn_error() says why in
 * one line, and nothing has changed; but a backward or a recorded step that fails midway leaves the
 * gradients that it was to add to without a value: zero_grad, then go on. No function exits, prints
 * or throws. Axes, class labels and positions count from 1; a negative axis counts from the end.
 * Shapes are logical (N, C, H, W) whatever the layout; activations are stored channels-last.
 *
 * Surprising: an op returns before its value is computed when a step is being recorded
 * (cnn_step_begin), and on tensors of the device "meta" nothing is ever computed: only shapes. */
#ifndef CNN_H
#define CNN_H
#include <stdint.h>

typedef struct cnn_tensor cnn_tensor;

/* ------------------------------------------------------------------------------ the engine */

const char *cnn_version(void);
const char *cnn_header(void); /* the text of this file */
const char *cnn_error(void);  /* why the last call failed, one line */
int cnn_set_threads(int n);   /* 0: one for each CPU */
int cnn_threads(void);
/* "generic" "blas" "avx2" "avx512" "avx512bf16", of the card "cuda" "cublas" "cudnn"; NULL: the
 * best */
int cnn_use_kernels(const char *variant);
const char *cnn_kernels(void); /* the variant in force */
/* How the CPU makes a convolution: conv is n h w c ldx, oh ow o ldy, kh kw sh sw ph pw dh dw,
 * groups; direction 0 forward, 1 data, 2 weight gradient. "direct", "winograd F(4x4, 3x3)" ... */
const char *cnn_conv_method(const int64_t *conv, int direction);
/* Has that method taken wherever it can be, by the first letters of its name; NULL: the one that
 * is estimated to be the fastest. */
void cnn_force_conv(const char *method);
const char *cnn_cpu(void); /* the CPU's name and instruction sets */
/* multiplications and additions a second, of a burst on all threads: in fp32, or, 1, in bf16 (0:
 * the CPU has no such instructions) */
double cnn_cpu_flops(int bf16);
/* What convolutions and products compute with: "fp32"; "bf16", which their results are in memory
 * too; on a card besides "tf32" and "auto" (tf32 in conv2d), which are fp32 on the CPU */
int cnn_set_precision(const char *name);
void cnn_interrupt(int on); /* 1: running and recorded ops fail with "interrupted" */
int cnn_interrupted(void);
int64_t cnn_bytes_alive(void); /* held by tensors */
int64_t cnn_bytes_peak(void);  /* the most since cnn_reset_peak */
void cnn_reset_peak(void);

/* -------------------------------------------------------------------------- the CUDA device
 * libcnn_cuda.so is opened when it is first asked for; a process uses one card. */
int cnn_cuda_count(void);            /* cards that can be used; 0, and cnn_error says why */
int cnn_cuda_open(int index);        /* the card "cuda" means from now on, from 0 */
const char *cnn_cuda_describe(void); /* lines of "key value"; NULL: there is no library */
/* bytes: held by tensors, taken from the card, the most held by tensors; free and in all */
int cnn_cuda_memory(int64_t *in_use, int64_t *held, int64_t *peak, int64_t *free, int64_t *total);
/* Of what this process can have, bytes that were never in use since the last call with anew = 1 */
int64_t cnn_cuda_spare(int anew);
void cnn_cuda_reset_peak(void);
void cnn_cuda_empty_cache(void);              /* gives the card back what is held and not in use */
int cnn_cuda_wait(void);                      /* until everything asked for is done */
int cnn_cuda_set_precision(const char *name); /* cnn_set_precision, if there is a card */
int cnn_cuda_set_deterministic(int on);
int cnn_cuda_set_autotune(int on);
/* Which engine cuDNN takes for a convolution on a card "sm_90", which need not be there: conv is n
 * h w c ldx, oh ow o ldy, kh kw sh sw ph pw dh dw, groups; direction 0 forward, 1 data, 2 weight
 * gradient; joined: bits of what is computed with it. The answer is written to text. */
int cnn_cuda_plan(const int64_t *conv, int direction, int joined, const char *precision,
                  const char *card, char *text, int n);
const char *cnn_cuda_cudnn(void); /* which cuDNN was found, or why none is used */
int64_t cnn_cuda_graphs(void);    /* steps that ran as a captured graph, since the start */

/* ------------------------------------------------------------------------ random numbers
 * Philox4x32-10 keyed by the seed; every random op takes the next stream. cnn_rng_step(k) sets the
 * stream to the first one of step k (k >= 1), so that a resumed run draws what the first one did.
 */
void cnn_manual_seed(uint64_t seed);
uint64_t cnn_seed(void);
void cnn_rng_step(int64_t step);
uint64_t cnn_rng_stream(void);
void cnn_set_rng_stream(uint64_t stream);
int cnn_permutation(int64_t n, uint64_t seed, uint64_t stream, int32_t *order); /* of 0 .. n-1 */

/* ------------------------------------------------------------------------------- tensors
 * dtype: "f32" "bf16" "u8" "i32"; device: "cpu" "meta" "cuda" "cuda:1" ...
 * Memory is taken, and a random or constant value is drawn, when the tensor is first used. */
cnn_tensor *cnn_empty(const int64_t *sizes, int n, const char *dtype, const char *device);
cnn_tensor *cnn_full(const int64_t *sizes, int n, double value, const char *dtype,
                     const char *device);
cnn_tensor *cnn_full_like(const cnn_tensor *x, double value); /* x's dtype, stored as x is */
cnn_tensor *cnn_uniform(const int64_t *sizes, int n, double lo, double hi, const char *device);
cnn_tensor *cnn_normal(const int64_t *sizes, int n, double mean, double std, const char *device);
cnn_tensor *cnn_arange(double first, double last, double step, const char *device);
cnn_tensor *cnn_from_data(const int64_t *sizes, int n, const char *dtype, const void *data);

void cnn_release(cnn_tensor *x);
int cnn_alive(const cnn_tensor *x); /* 0: given back when its step ended */
int cnn_dim(const cnn_tensor *x);
int64_t cnn_size(const cnn_tensor *x, int axis); /* 0 when there is no such axis */
int64_t cnn_stride(const cnn_tensor *x, int axis);
int64_t cnn_numel(const cnn_tensor *x);
const char *cnn_dtype(const cnn_tensor *x);
const char *cnn_device(const cnn_tensor *x);
int cnn_is_contiguous(const cnn_tensor *x);
const char *cnn_origin(const cnn_tensor *x); /* the op that made it, "leaf" for none */
/* Runs what is pending and returns the first element; the caller walks by the strides. */
void *cnn_data(cnn_tensor *x);
int cnn_item(cnn_tensor *x, double *value);  /* one element */
int cnn_read(cnn_tensor *x, double *values); /* all, in logical order */

/* ------------------------------------------------------------------------------- autograd
 * backward: loss has one element, or seed has its shape. Leaves that require a gradient get it
 * added to theirs. When an op written in Lua is met, cnn_backward returns its number (> 0); the
 * caller reads cnn_backward_dy, hands in each input's gradient (NULL: none) and calls
 * cnn_backward_resume. 0: done. */
int cnn_requires_grad(const cnn_tensor *x);
int cnn_set_requires_grad(cnn_tensor *x, int on);
cnn_tensor *cnn_grad(cnn_tensor *x); /* a new handle, or NULL when there is none */
int cnn_set_grad(cnn_tensor *x, cnn_tensor *grad);
int cnn_set_grad_enabled(int on); /* returns what it was */
int cnn_grad_enabled(void);
int cnn_backward(cnn_tensor *loss, cnn_tensor *seed);
cnn_tensor *cnn_backward_dy(void);
int cnn_backward_give(int input, cnn_tensor *dx); /* input counts from 1 */
int cnn_backward_resume(void);
void cnn_backward_abandon(void); /* instead of resume: gives back what the backward holds */
/* The op of `number` (> 0, the caller's) becomes the origin of a further view of y, with these
 * inputs. */
cnn_tensor *cnn_custom(cnn_tensor *y, int number, cnn_tensor *const *list, int n);
int cnn_custom_dropped(void); /* the number of a custom op that is no longer needed, or 0 */

/* ---------------------------------------------------------------------------------- steps
 * Between begin and end ops are only recorded. end runs them, keeps the tensors in `keep` and gives
 * back every other one made since begin; a handle to such a one answers with an error. */
int cnn_step_begin(void);
int cnn_step_end(cnn_tensor *const *keep, int n);
int cnn_keep(cnn_tensor *x); /* x is state: it outlives the step that made it */
void cnn_step_abandon(void); /* forgets what has not run */
/* Shape rules count multiply-adds: the sum since the last call. */
int64_t cnn_macs(void);

/* ================================================================= the catalogue of ops
 * Formulas use x, y as in the prototype. A clause with -> says the shapes, of one op or, above
 * them, of a family; what else the family's clauses say holds for each of it. Axes, indices and
 * labels count from 1. u8, i32 and bf16 inputs of arithmetic are taken as f32. Results are f32
 * unless said, or, with precision "bf16", what convolutions make and ops behind them take as it is:
 * bf16. The help reads these comments. */

/* arithmetic; any shapes that broadcast -> what they broadcast to, as in NumPy */
cnn_tensor *cnn_add(cnn_tensor *a, cnn_tensor *b);     /* a + b */
cnn_tensor *cnn_sub(cnn_tensor *a, cnn_tensor *b);     /* a - b */
cnn_tensor *cnn_mul(cnn_tensor *a, cnn_tensor *b);     /* a * b */
cnn_tensor *cnn_div(cnn_tensor *a, cnn_tensor *b);     /* a / b */
cnn_tensor *cnn_pow(cnn_tensor *a, cnn_tensor *b);     /* a ^ b */
cnn_tensor *cnn_maximum(cnn_tensor *a, cnn_tensor *b); /* max(a, b); gradient halved at a tie */
cnn_tensor *cnn_minimum(cnn_tensor *a, cnn_tensor *b); /* min(a, b); gradient halved at a tie */
cnn_tensor *cnn_eq(cnn_tensor *a, cnn_tensor *b);      /* 1 where a == b, else 0 */
cnn_tensor *cnn_ne(cnn_tensor *a, cnn_tensor *b);      /* 1 where a != b, else 0 */
cnn_tensor *cnn_lt(cnn_tensor *a, cnn_tensor *b);      /* 1 where a < b, else 0 */
cnn_tensor *cnn_le(cnn_tensor *a, cnn_tensor *b);      /* 1 where a <= b, else 0 */
cnn_tensor *cnn_gt(cnn_tensor *a, cnn_tensor *b);      /* 1 where a > b, else 0 */
cnn_tensor *cnn_ge(cnn_tensor *a, cnn_tensor *b);      /* 1 where a >= b, else 0 */
cnn_tensor *cnn_where(cnn_tensor *cond, cnn_tensor *a, cnn_tensor *b); /* cond != 0 ? a : b */

/* one input; any shape -> the same */
cnn_tensor *cnn_neg(cnn_tensor *x);                      /* -x */
cnn_tensor *cnn_exp(cnn_tensor *x);                      /* e^x */
cnn_tensor *cnn_log(cnn_tensor *x);                      /* ln x */
cnn_tensor *cnn_sqrt(cnn_tensor *x);                     /* sqrt x */
cnn_tensor *cnn_abs(cnn_tensor *x);                      /* |x| */
cnn_tensor *cnn_sign(cnn_tensor *x);                     /* -1, 0 or 1; its gradient is 0 */
cnn_tensor *cnn_tanh(cnn_tensor *x);                     /* tanh x */
cnn_tensor *cnn_sigmoid(cnn_tensor *x);                  /* 1 / (1 + e^-x) */
cnn_tensor *cnn_relu(cnn_tensor *x);                     /* max(x, 0) */
cnn_tensor *cnn_leaky_relu(cnn_tensor *x, double slope); /* x > 0 ? x : slope * x */
cnn_tensor *cnn_gelu(cnn_tensor *x); /* x * Phi(x), Phi the normal distribution (erf form) */
cnn_tensor *cnn_silu(cnn_tensor *x); /* x * sigmoid(x) */
cnn_tensor *cnn_power(cnn_tensor *x, double p); /* x ^ p; a product for 2, a root for 0.5 */
/* clamp: min(max(x, lo), hi); no gradient at the bounds and beyond */
cnn_tensor *cnn_clamp(cnn_tensor *x, double lo, double hi);
cnn_tensor *cnn_affine(cnn_tensor *x, double scale, double shift); /* scale * x + shift */

/* reductions; over `axes`, -1 being the last (none: all); a reduced axis stays, with size 1;
 * AxBxC over 2 -> Ax1xC, over all -> no axis */
cnn_tensor *cnn_sum(cnn_tensor *x, const int *axes, int n);  /* sum x */
cnn_tensor *cnn_mean(cnn_tensor *x, const int *axes, int n); /* sum x / count */
cnn_tensor *cnn_var(cnn_tensor *x, const int *axes, int n);  /* mean (x - mean x)^2: biased */
cnn_tensor *cnn_max(cnn_tensor *x, const int *axes, int n);  /* max x; gradient shared by equals */
cnn_tensor *cnn_min(cnn_tensor *x, const int *axes, int n);  /* min x; gradient shared by equals */
cnn_tensor *cnn_norm(cnn_tensor *x, const int *axes, int n); /* sqrt(sum x^2) */

/* indices of values */
/* argmax: index of the largest along axis, i32, the first of equals; AxBxC along 2 -> Ax1xC */
cnn_tensor *cnn_argmax(cnn_tensor *x, int axis);

/* softmax and losses; any shape -> the same */
cnn_tensor *cnn_softmax(cnn_tensor *x, int axis);     /* e^x / sum e^x along axis */
cnn_tensor *cnn_log_softmax(cnn_tensor *x, int axis); /* x - ln sum e^x along axis */
/* cross_entropy: mean of -log_softmax(x) at the labels, 1..C; x NxC, label N -> no axis */
cnn_tensor *cnn_cross_entropy(cnn_tensor *x, cnn_tensor *label);
/* mse: mean (a - b)^2; any shapes that broadcast -> no axis */
cnn_tensor *cnn_mse(cnn_tensor *a, cnn_tensor *b);

/* products */
/* matmul: the product of matrices, for each of a batch; a ...xMxK, b ...xKxN -> ...xMxN */
cnn_tensor *cnn_matmul(cnn_tensor *a, cnn_tensor *b);
/* linear: x w^T + b; x ...xI, w OxI, b O or NULL -> ...xO */
cnn_tensor *cnn_linear(cnn_tensor *x, cnn_tensor *w, cnn_tensor *b);

/* views; the memory is that of x where the strides allow it */
/* view: the values in their order under other sizes, one may be -1; AxBxC to A, -1 -> AxBC */
cnn_tensor *cnn_view(cnn_tensor *x, const int64_t *sizes, int n);
/* reshape: the same as view; AxBxC to A, -1 -> AxBC */
cnn_tensor *cnn_reshape(cnn_tensor *x, const int64_t *sizes, int n);
/* transpose: two axes change places; AxBxC, 1 and 3 -> CxBxA */
cnn_tensor *cnn_transpose(cnn_tensor *x, int axis1, int axis2);
/* permute: y's axis i is x's axes[i]; AxBxC by 3, 1, 2 -> CxAxB */
cnn_tensor *cnn_permute(cnn_tensor *x, const int *axes, int n);
/* narrow: `length` indices of an axis, from `start` on; AxBxC along 2 -> AxLxC, L the length */
cnn_tensor *cnn_narrow(cnn_tensor *x, int axis, int64_t start, int64_t length);
/* select: one index of an axis, which goes, -1 being the last; AxBxC along 2 -> AxC */
cnn_tensor *cnn_select(cnn_tensor *x, int axis, int64_t index);
/* expand: sizes of 1 are stretched without a copy, -1 keeps a size; Ax1xC to -1, B, -1 -> AxBxC */
cnn_tensor *cnn_expand(cnn_tensor *x, const int64_t *sizes, int n);
/* squeeze: axes of size 1 go (none given: all such); Ax1xC -> AxC */
cnn_tensor *cnn_squeeze(cnn_tensor *x, const int *axes, int n);
/* unsqueeze: a new axis of size 1; AxC, 2 -> Ax1xC */
cnn_tensor *cnn_unsqueeze(cnn_tensor *x, int axis);

/* copies */
/* cat: behind one another along an axis; AxB and AxC along 2 -> Ax(B+C) */
cnn_tensor *cnn_cat(cnn_tensor *const *list, int n, int axis);
/* stack: beside one another along a new axis; n times AxB along 1 -> nxAxB */
cnn_tensor *cnn_stack(cnn_tensor *const *list, int n, int axis);
/* pad: (before, after) pairs from the last axis backwards, as in PyTorch; n numbers; HxW, (1, 2)
 * -> Hx(1+W+2) */
cnn_tensor *cnn_pad(cnn_tensor *x, const int64_t *sizes, int n, double value);
/* index_select: the given indices of an axis; AxBxC along 2, index N -> AxNxC */
cnn_tensor *cnn_index_select(cnn_tensor *x, int axis, cnn_tensor *index);

/* the values of x, stored otherwise; any shape -> the same */
cnn_tensor *cnn_contiguous(cnn_tensor *x); /* row-major in logical order; x itself if it is */
/* channels_last: stored as NxHxWxC; x itself if it is; NxCxHxW -> the same */
cnn_tensor *cnn_channels_last(cnn_tensor *x);
cnn_tensor *cnn_clone(cnn_tensor *x);                 /* a copy in memory of its own */
cnn_tensor *cnn_detach(cnn_tensor *x);                /* the same memory, no history */
cnn_tensor *cnn_to(cnn_tensor *x, const char *where); /* a dtype or a device; x itself if there */

/* in place; backward fails where it needs the values that were there; any shape -> the same */
int cnn_copy(cnn_tensor *x, cnn_tensor *from); /* x := from, which broadcasts to x */
int cnn_fill(cnn_tensor *x, double value);     /* every element := value */

/* layers */
/* conv2d: sums over windows of x times w, plus b; strides s, paddings p, dilations d of h and w;
 * x NxCxHxW, w OxC/groupsxKHxKW, b O or NULL -> NxOxOHxOW,
 * OH = floor((H + 2 ph - dh (KH - 1) - 1) / sh) + 1, likewise OW */
cnn_tensor *cnn_conv2d(cnn_tensor *x, cnn_tensor *w, cnn_tensor *b, int sh, int sw, int ph, int pw,
                       int dh, int dw, int groups);
/* max_pool2d: the maximum of each window; kernel k, strides s, paddings p of h and w;
 * NxCxHxW -> NxCxOHxOW, OH = floor((H + 2 ph - kh) / sh) + 1, likewise OW */
cnn_tensor *cnn_max_pool2d(cnn_tensor *x, int kh, int kw, int sh, int sw, int ph, int pw);
/* avg_pool2d: the mean of each window, padding counted as zeros; kernel k, strides s, paddings p of
 * h and w; NxCxHxW -> NxCxOHxOW, OH = floor((H + 2 ph - kh) / sh) + 1, likewise OW */
cnn_tensor *cnn_avg_pool2d(cnn_tensor *x, int kh, int kw, int sh, int sw, int ph, int pw);
/* adaptive_avg_pool2d: means of oh x ow even parts of a picture; NxCxHxW -> NxCxOHxOW */
cnn_tensor *cnn_adaptive_avg_pool2d(cnn_tensor *x, int oh, int ow);
/* batch_norm (Ioffe, Szegedy 2015): (x - mean) / sqrt(var + eps) * gamma + beta; x NxC or NxCxHxW,
 * gamma, beta, mean, var C or NULL -> as x; training: statistics of the batch, and mean, var :=
 * (1 - momentum) * old + momentum * batch, the variance unbiased there; else mean and var are used
 */
cnn_tensor *cnn_batch_norm(cnn_tensor *x, cnn_tensor *gamma, cnn_tensor *beta, cnn_tensor *mean,
                           cnn_tensor *var, int training, double momentum, double eps);
/* layer_norm (Ba et al. 2016): each x over its last `last` axes to mean 0 and variance 1, times
 * gamma plus beta; x any, gamma, beta the last axes or NULL -> as x */
cnn_tensor *cnn_layer_norm(cnn_tensor *x, int last, cnn_tensor *gamma, cnn_tensor *beta,
                           double eps);
/* group_norm (Wu, He 2018): each picture over its pixels and C/groups channels to mean 0 and
 * variance 1, times gamma plus beta; x NxC or NxCxHxW, gamma, beta C or NULL -> as x */
cnn_tensor *cnn_group_norm(cnn_tensor *x, int groups, cnn_tensor *gamma, cnn_tensor *beta,
                           double eps);
/* dropout (Srivastava et al. 2014): 0 with probability p, else x / (1 - p); drawn at each call, in
 * whatever mode; any -> as x */
cnn_tensor *cnn_dropout(cnn_tensor *x, double p);

/* optimizers; one parameter in place by its gradient (an error when it has none); any shape, and
 * buffers of that shape -> the same */
/* sgd: g = grad + weight_decay * param; velocity := g if `first`, else momentum * velocity + g;
 * param -= lr * velocity, or lr * (g + momentum * velocity) with nesterov; velocity NULL without
 * momentum */
int cnn_sgd(cnn_tensor *param, cnn_tensor *velocity, double lr, double momentum,
            double weight_decay, int nesterov, int first);
/* adam (Kingma, Ba 2015): m, v: running means of g and g^2, corrected by 1 - beta^step;
 * param -= lr * m / (sqrt v + eps); decoupled: weight decay on param itself, not in g (Loshchilov,
 * Hutter 2019); step counts from 1 */
int cnn_adam(cnn_tensor *param, cnn_tensor *m, cnn_tensor *v, double lr, double beta1, double beta2,
             double eps, double weight_decay, int decoupled, int64_t step);

/* ===================================================================== data, files, pictures */

/* An image data set in memory: bytes as the files have them. IDX files, plain or gzip (LeCun's
 * format). Labels are checked to be below `classes`. */
typedef struct cnn_dataset cnn_dataset;
cnn_dataset *cnn_dataset_idx(const char *images, const char *labels, int classes);
cnn_dataset *cnn_dataset_from(cnn_tensor *images, cnn_tensor *labels, int classes); /* u8 NCHW */
void cnn_dataset_release(cnn_dataset *d);
int64_t cnn_dataset_count(const cnn_dataset *d);
int64_t cnn_dataset_size(const cnn_dataset *d, int axis); /* 1: channels, 2: height, 3: width */
/* Batches in the order of `order` (count positions from 0, copied; NULL: as stored), made by a
 * thread a batch ahead: images / 255 resized bilinearly to h x w (pixel centres, no antialias),
 * f32 channels-last, and labels i32 from 1. next: 1 a batch, 0 the end, -1 an error. */
typedef struct cnn_loader cnn_loader;
cnn_loader *cnn_loader_new(cnn_dataset *d, const int32_t *order, int64_t count, int64_t batch,
                           int h, int w);
int cnn_loader_next(cnn_loader *l, cnn_tensor **x, cnn_tensor **y);
double cnn_loader_waited(const cnn_loader *l); /* seconds that next had to wait */
void cnn_loader_release(cnn_loader *l);
/* The same batches on the card, where the data set's bytes are brought once: the first `images` of
 * it, as stored or shuffled as cnn_permutation does (0, -1, or 1: a batch of the order as it is has
 * not been used yet). first counts from 1; x and y are made when they are first used. */
typedef struct cnn_pictures cnn_pictures;
cnn_pictures *cnn_pictures_new(cnn_dataset *d, int64_t images, int h, int w);
int cnn_pictures_shuffle(cnn_pictures *p, uint64_t seed, uint64_t stream);
int cnn_pictures_batch(cnn_pictures *p, int64_t first, int64_t count, cnn_tensor **x,
                       cnn_tensor **y);
void cnn_pictures_release(cnn_pictures *p);
/* bilinear, no antialias, align_corners=false: N C H W f32 or u8 -> f32; no gradient */
cnn_tensor *cnn_resize(cnn_tensor *x, int h, int w);

/* PNG: u8, C x H x W with C 1 or 3; 16 bits, palettes and alpha are brought to that. */
cnn_tensor *cnn_png_read(const char *file, int channels);
int cnn_png_write(const char *file, cnn_tensor *image);
cnn_tensor *cnn_png_pack(cnn_tensor *image); /* u8: the bytes of such a file */

/* Files as one piece: written beside it, synced, renamed. A safetensors file is `header` (JSON
 * made by the caller) and the tensors' values in logical order. cnn_file_write: plain text. */
int cnn_safetensors_write(const char *file, const char *header, int64_t length,
                          cnn_tensor *const *list, int n);
/* Reads the values of x, in logical order and of its dtype, from byte `offset` of the file on. */
int cnn_file_read(const char *file, int64_t offset, cnn_tensor *x);
int cnn_file_write(const char *file, const char *text, int64_t length);

double cnn_seconds(void);   /* a clock that only goes forward */
int64_t cnn_peak_rss(void); /* bytes, of this process */
void cnn_reset_rss(void);   /* starts a new peak where the system can */

#endif
