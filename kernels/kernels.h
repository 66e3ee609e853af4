/* kernels.h - the contract between the engine and its kernels.
 *
 * A kernel sees pointers and integers, never a tensor. It cannot fail, never allocates and never
 * prints: shapes were checked, outputs allocated and scratch memory sized before it is called.
 * Every slot of the table below has a plain loop in *_generic.c, which stays the oracle, but those
 * that join two ops, which may be NULL; better variants overlay it, worst to best: generic < blas <
 * avx2 < avx512 < avx512bf16. A card has tables of its own: cuda < cublas < cudnn (card.h).
 *
 * Surprising: a parallel kernel cuts its work by the shapes alone, never by the number of threads,
 * so any thread count gives the same bits.
 *
 * Activations are matrices: n*h*w pixels (rows) by c channels, `ld` elements from a row to the
 * next, ld >= c. A channel slice is the same matrix with another pointer. */
#ifndef CNN_KERNELS_H
#define CNN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* What the elements of an array are. */
typedef enum { K_F32, K_BF16, K_U8, K_I32 } k_dtype;
enum { K_DTYPES = K_I32 + 1 };

/* ------------------------------------------------------------------ loops over strided arrays */

enum { K_MAX_DIMS = 8 };

/* An elementwise loop over up to one output and three inputs. Dimensions run from outermost [0] to
 * innermost [nd-1], which is the order of y's strides; they count elements, a broadcast input has
 * stride 0. The caller has dropped dimensions of size 1 and merged what can be merged, so nd is
 * often 1. nd >= 1, sizes may be 0. */
typedef struct {
    int nd;
    int64_t size[K_MAX_DIMS];
    int64_t sy[K_MAX_DIMS], sa[K_MAX_DIMS], sb[K_MAX_DIMS], sc[K_MAX_DIMS];
} k_loop;

/* y = f(a, b, c; p). Inputs that f does not take are NULL, with strides 0. y may be equal to an
 * input of the same layout. */
typedef void k_pointwise(const k_loop *l, float *y, const float *a, const float *b, const float *c,
                         const float p[2]);

/* A reduction: for each of the kept positions (nk dims, strides sy in y and kx in x) fold the
 * reduced positions (nr dims, strides rx in x). Merged as in k_loop; nk, nr >= 1; the number of
 * reduced positions is >= 1. Reduced positions are counted in row-major order (argmax, from 0). */
typedef struct {
    int nk, nr;
    int64_t ksize[K_MAX_DIMS], sy[K_MAX_DIMS], kx[K_MAX_DIMS];
    int64_t rsize[K_MAX_DIMS], rx[K_MAX_DIMS];
} k_reduce;

typedef void k_reduction(const k_reduce *r, float *y, const float *x, void *scratch);

/* ---------------------------------------------------------------------------- shapes of layers */

/* 2-D convolution (cross-correlation), x: n h w c with row stride ldx, y: n oh ow o with ldy,
 * weights o x kh x kw x (c/groups), dense. */
typedef struct {
    int64_t n, h, w, c, ldx;
    int64_t oh, ow, o, ldy;
    int64_t kh, kw, sh, sw, ph, pw, dh, dw, groups;
} k_conv;

/* What a convolution computes: y, dx or dw. */
typedef enum { K_FORWARD, K_DATA_GRAD, K_WEIGHT_GRAD } k_direction;

/* What a convolution does besides, while its blocks lie in the caches; NULL or 0: not that.
 *   x' = relu(x * in_gain + in_shift), before it is padded: the padding stays 0
 *   y = relu(conv(x') * gain + bias + add)
 * The vectors have a value for each channel; in_gain and in_shift come together. */
typedef struct {
    const float *in_gain, *in_shift;
    int in_relu;
    const float *gain, *bias;
    const float *add; /* rows as those of y, ldadd apart */
    int64_t ldadd;
    int relu;
} k_join;

/* 2-D pooling, x: n h w c (ldx), y: n oh ow c (ldy). Adaptive pooling: kh = 0; window i of an axis
 * is then [floor(i*h/oh), ceil((i+1)*h/oh)). Average pooling counts the padding as zeros, as
 * PyTorch does (count_include_pad). */
typedef struct {
    int64_t n, h, w, c, ldx;
    int64_t oh, ow, ldy;
    int64_t kh, kw, sh, sw, ph, pw;
} k_pool;

/* Normalization of an activation matrix: rows = samples x pixels. Batch norm takes its statistics
 * over all rows for each channel; group norm over the `pixels` rows of a sample and the c/groups
 * channels of a group, for each of rows/pixels samples; layer norm is group norm with pixels = 1,
 * groups = 1 and gamma, beta of c entries. */
typedef struct {
    int64_t rows, c, ldx, ldy, lddx; /* the last: of a gradient, dx; y is then dy */
    int64_t pixels, groups;
} k_norm;

/* Pictures of a data set for a batch: n of them, picture i of the batch being number order[first +
 * i] (order NULL: first + i) of `pixels`, which are count x h x w x c bytes. */
typedef struct {
    int64_t n, first, h, w, c, oh, ow;
} k_images;

/* One parameter of an optimizer's step: n elements, parameter, gradient, two buffers (sgd: velocity
 * or NULL, NULL; adam: m, v). All arrays are dense and share one layout. */
typedef struct {
    int64_t n;
    float *p;
    const float *g;
    float *u, *v;
} k_part;

/* An array of n floats, and where they go as bf16. */
typedef struct {
    int64_t n;
    const float *x;
    void *y;
} k_cast;

typedef struct {
    float lr, momentum, weight_decay;
    int nesterov, first;
} k_sgd;

typedef struct {
    float lr, b1, b2, eps, weight_decay;
    int decoupled;
    int64_t step;
} k_adam;

/* The random numbers of an op: `stream` under `seed`. */
typedef struct {
    uint64_t seed, stream;
} k_draw;

/* The first value that is no position (or the first that another kernel could not use): where it
 * stood, from 0, and what it was. found = 0: all is well. `op` is whatever number the caller gave.
 */
typedef struct {
    int32_t found, op;
    int64_t at;
    double value;
} k_trouble;

/* C[m x n] = op(A)[m x k] op(B)[k x n], row-major.
 * ta: A is stored k x m; tb: B is stored n x k. bias: NULL or n floats added to each row. */
typedef struct {
    int ta, tb;
    int64_t m, n, k, lda, ldb, ldc;
} k_gemm;

/* ------------------------------------------------------------------------------------ the table
 * X(type, name): one line a slot. Types k_* above, the others below.
 *
 * There is a second table, the narrow one, for activations that lie in memory as bf16. Its slots
 * have the same signatures, but behind some pointers lie bf16 values, rounded to the nearest; what
 * a slot sums up or reads besides is float32 as ever. These are:
 *   pointwise, but for the comparisons              y, a, b, c
 *   sum                                             x
 *   conv_*                                          all, and they begin at multiples of 16 bytes
 *   gemm, gemm_relu, gemm_bias_grad                 a, b
 *   max_pool, avg_pool, and their gradients         x, dx, y, dy
 *   batch_stats, batch_norm, batch_norm_relu,
 *   batch_norm_grad                                 x, dx, y, dy, add
 *   dropout                                         x, y
 *   images (on a card)                              x
 * All other slots are those of the first table. */

/* clang-format off */
#define K_ARITHMETIC(X)                                                                            \
    X(copy)       /* a */                                                                          \
    X(add)        /* a + b */                                                                      \
    X(sub)        /* a - b */                                                                      \
    X(mul)        /* a * b */                                                                      \
    X(div)        /* a / b */                                                                      \
    X(pow)        /* a ^ b */                                                                      \
    X(maximum)    /* max(a, b), NaN wins */                                                        \
    X(minimum)    /* min(a, b), NaN wins */                                                        \
    X(where)      /* a != 0 ? b : c */                                                             \
    X(neg)        /* -a */                                                                         \
    X(exp)        /* e^a */                                                                        \
    X(log)        /* ln a */                                                                       \
    X(sqrt)       /* sqrt a */                                                                     \
    X(abs)        /* |a| */                                                                        \
    X(sign)       /* -1, 0, 1; NaN stays */                                                        \
    X(tanh)       /* tanh a */                                                                     \
    X(sigmoid)    /* 1 / (1 + e^-a) */                                                             \
    X(relu)       /* max(a, 0), NaN stays */                                                       \
    X(leaky_relu) /* a > 0 ? a : p0 * a */                                                         \
    X(gelu)       /* a * (1 + erf(a / sqrt 2)) / 2 */                                              \
    X(silu)       /* a / (1 + e^-a) */                                                             \
    X(clamp)      /* min(max(a, p0), p1), NaN stays */                                             \
    X(affine)     /* p0 * a + p1 */                                                                \
    /* gradients: a = dy, b = the saved value */                                                   \
    X(tanh_grad)       /* a * (1 - b * b), b = y */                                                \
    X(sigmoid_grad)    /* a * b * (1 - b), b = y */                                                \
    X(relu_grad)       /* b > 0 ? a : 0, b = y */                                                  \
    X(leaky_relu_grad) /* b > 0 ? a : p0 * a, b = x */                                             \
    X(gelu_grad)       /* a * gelu'(b), b = x */                                                   \
    X(silu_grad)       /* a * silu'(b), b = x */                                                   \
    X(clamp_grad)      /* p0 < b && b < p1 ? a : 0, b = x */

#define K_COMPARISONS(X)                                                                           \
    X(eq)         /* a == b ? 1 : 0 */                                                             \
    X(ne)         /* a != b ? 1 : 0 */                                                             \
    X(lt)         /* a < b ? 1 : 0 */                                                              \
    X(le)         /* a <= b ? 1 : 0 */                                                             \
    X(gt)         /* a > b ? 1 : 0 */                                                              \
    X(ge)         /* a >= b ? 1 : 0 */

#define K_POINTWISE(X) K_ARITHMETIC(X) K_COMPARISONS(X)

#define K_REDUCTIONS(X)                                                                            \
    X(sum)                                                                                         \
    X(max)    /* NaN wins */                                                                       \
    X(min)    /* NaN wins */                                                                       \
    X(argmax) /* position of the first maximum (or NaN) among those reduced, from 0, a float */    \
    X(var)    /* biased: mean of (x - mean)^2, in two passes */

#define K_LAYERS(X)                                                                                \
    X(reduce_scratch, int64_t, (const k_reduce *r)) /* bytes, for each of the reductions */        \
    /* products */                                                                                 \
    X(gemm, void, (const k_gemm *g, const float *a, const float *b, const float *bias, float *c,   \
                   void *scratch))                                                                 \
    X(gemm_relu, void, (const k_gemm *g, const float *a, const float *b, const float *bias,        \
                        float *c, void *scratch)) /* with ReLU behind it; NULL: none */            \
    /* bias gets the sum of each row of op(A), m floats; 0: not for such a product, nothing was    \
       done. NULL where a variant has none */                                                      \
    X(gemm_bias_grad, int, (const k_gemm *g, const float *a, const float *b, float *bias,          \
                            float *c, void *scratch))                                              \
    X(gemm_scratch, int64_t, (const k_gemm *g)) /* of each of them */                              \
    X(conv_forward, void, (const k_conv *s, const float *x, const float *w, const float *bias,     \
                           float *y, void *scratch))                                               \
    /* with what stands around it (k_join); NULL where a variant joins nothing */                  \
    X(conv_joined, void, (const k_conv *s, const k_join *j, const float *x, const float *w,        \
                          float *y, void *scratch))                                                \
    X(conv_joined_scratch, int64_t, (const k_conv *s, const k_join *j)) /* -1: not this join */    \
    X(conv_data_grad, void, (const k_conv *s, const float *dy, const float *w, float *dx,          \
                             void *scratch))                                                       \
    X(conv_weight_grad, void, (const k_conv *s, const float *x, const float *dy, float *dw,        \
                               void *scratch))                                                     \
    X(conv_scratch, int64_t, (const k_conv *s, k_direction direction))                             \
    X(conv_method, const char *, (const k_conv *s, k_direction direction)) /* its name */          \
    /* pooling: `index` gets the winning tap (ky * kw + kx) of each output, for the gradient */    \
    X(max_pool, void, (const k_pool *s, const float *x, float *y, uint8_t *index))                 \
    X(max_pool_grad, void, (const k_pool *s, const float *dy, const uint8_t *index, float *dx))    \
    X(avg_pool, void, (const k_pool *s, const float *x, float *y))                                 \
    X(avg_pool_grad, void, (const k_pool *s, const float *dy, float *dx))                          \
    /* normalization; mean, rstd: one a channel (batch) or one a sample and group (group) */       \
    X(batch_stats, void, (const k_norm *s, const float *x, float *mean, float *var,                \
                          void *scratch))                                                          \
    /* y may be x; dx may be x or dy, where the rows have the same stride */                       \
    X(batch_norm, void, (const k_norm *s, const float *x, const float *mean, const float *rstd,    \
                         const float *gamma, const float *beta, float *y))                         \
    /* plus `add` (NULL, or rows with that stride), then ReLU, in one pass; y may be none of       \
       them. NULL where a variant has none: the ops then run one by one */                         \
    X(batch_norm_relu, void, (const k_norm *s, const float *x, const float *mean,                  \
                              const float *rstd, const float *gamma, const float *beta,            \
                              const float *add, int64_t ldadd, float *y))                          \
    X(batch_norm_grad, void, (const k_norm *s, const float *x, const float *dy, const float *mean, \
                              const float *rstd, const float *gamma, int training, float *dx,      \
                              float *dgamma, float *dbeta, void *scratch))                         \
    X(group_norm, void, (const k_norm *s, const float *x, const float *gamma, const float *beta,   \
                         float eps, float *y, float *mean, float *rstd))                           \
    X(group_norm_grad, void, (const k_norm *s, const float *x, const float *dy, const float *mean, \
                              const float *rstd, const float *gamma, float *dx, float *dgamma,     \
                              float *dbeta, void *scratch))                                        \
    X(norm_scratch, int64_t, (const k_norm *s)) /* of each of the three that take it */            \
    X(rstd, void, (int64_t n, const float *var, float eps, /* v = var + eps */                     \
                   float *y))                              /* sqrt(v) / v */                       \
    X(running, void, (int64_t n, float keep, float take, const float *x, int64_t stride,           \
                      float *y)) /* y = keep * y + take * x, in place; y with that stride */       \
    /* losses: rows x c, dense */                                                                  \
    X(softmax, void, (int64_t rows, int64_t c, const float *x, float *y))                          \
    X(log_softmax, void, (int64_t rows, int64_t c, const float *x, float *y))                      \
    X(softmax_grad, void, (int64_t rows, int64_t c, const float *y, const float *dy, float *dx))   \
    X(log_softmax_grad, void, (int64_t rows, int64_t c, const float *y, const float *dy,           \
                               float *dx))                                                         \
    X(cross_entropy, void, (int64_t rows, int64_t c, const float *x, const int32_t *label,         \
                            float *logp, float *loss)) /* label from 0; loss: the mean */          \
    X(cross_entropy_grad, void, (int64_t rows, int64_t c, const float *logp, const int32_t *label, \
                                 const float *dloss, float *dx))                                   \
    /* random: element i of `stream` under `seed`, Philox4x32-10 (core/rng.c says the layout) */   \
    X(uniform, void, (int64_t n, const k_draw *d, float lo, float hi, float *y))                   \
    X(normal, void, (int64_t n, const k_draw *d, float mean, float std, float *y))                 \
    X(dropout, void, (int64_t n, const k_draw *d, float p, const float *x,                         \
                      float *y)) /* y = u < p ? 0 : x / (1 - p), may be x; its own gradient */     \
    X(shuffle, void, (int64_t n, const k_draw *d, int32_t *order,                                  \
                      void *scratch)) /* 0 .. n-1 by a uniform key each, ties by place */          \
    X(shuffle_scratch, int64_t, (int64_t n))                                                       \
    /* storage: index_select copies and adds rows of `inner` floats for each of `outer` blocks */  \
    X(index_select, void, (int64_t outer, int64_t rows, int64_t picks, int64_t inner,              \
                           const float *x, const int32_t *index, float *y))                        \
    X(index_add, void, (int64_t outer, int64_t rows, int64_t picks, int64_t inner,                 \
                        const float *dy, const int32_t *index, float *dx)) /* dx starts at 0 */    \
    X(to_f32, void, (int64_t n, k_dtype dtype, const void *x, float *y))                           \
    X(from_f32, void, (int64_t n, k_dtype dtype, const float *x, void *y)) /* rounds, saturates */ \
    /* from_f32 to bf16 of many arrays at once; NULL where a variant has none: they go one by one  \
     */                                                                                            \
    X(narrow_all, void, (int64_t parts, const k_cast *part))                                       \
    X(fill, void, (int64_t n, int bytes, const void *one, void *y)) /* n copies of an element      \
                                            of 1, 2 or 4 bytes; `one` lies on the host */          \
    X(range, void, (int64_t n, double first, double step, float *y)) /* first + i * step */        \
    X(elements, void, (const k_loop *l, int bytes, const void *a, void *y)) /* y = a, of 1 or 2 */ \
    X(positions, void, (int64_t n, k_dtype dtype, const void *x, int64_t limit, int op,            \
                        int32_t *y, k_trouble *bad)) /* y = x - 1 if x is a whole number in 1 ..   \
                                            limit; else 0, and *bad says so, if it is the first */ \
    /* pictures: pixels / 255 resized bilinearly (core/resize.c: its order of sums), x: n oh ow c; \
       y: labels + 1. Either of x, y may be NULL */                                                \
    X(images, void, (const k_images *s, const uint8_t *pixels, const uint8_t *labels,              \
                     const int32_t *order, float *x, int32_t *y))                                  \
    /* the same of floats, which lie at the strides of n, h, w and c (first: not looked at) */     \
    X(resize, void, (const k_images *s, const int64_t stride[4], const float *x, float *y))        \
    /* optimizers, in place, over all parameters at once */                                        \
    X(sgd, void, (int64_t parts, const k_part *part, const k_sgd *a))                              \
    X(adam, void, (int64_t parts, const k_part *part, const k_adam *a))                            \
    /* the machine itself: rounds of multiply-adds in registers, on the calling thread alone; how  \
       many operations that was, 0: none of such numbers. *sink: what came out. NULL on a card */  \
    X(peak, int64_t, (k_dtype dtype, int64_t rounds, float *sink))
/* clang-format on */

#define K_SLOT_POINTWISE(name)        k_pointwise *name;
#define K_SLOT_REDUCTION(name)        k_reduction *name;
#define K_SLOT_LAYER(name, ret, args) ret(*name) args;

typedef struct {
    K_POINTWISE(K_SLOT_POINTWISE)
    K_REDUCTIONS(K_SLOT_REDUCTION)
    K_LAYERS(K_SLOT_LAYER)
} k_table;

/* ---------------------------------------------------------------------------------- the variants
 * k_select fills both tables up to the best variant that this CPU runs, or, unless NULL, up to
 * `variant` ("generic", "blas", "avx2", "avx512", "avx512bf16"), whatever lies below it included;
 * it returns 0, or -1 when the CPU cannot run that one. k_variant: the name of the one in force. */
int k_select(k_table *wide, k_table *narrow, const char *variant);
const char *k_variant(void);

/* The method of convolution that is taken wherever it can be, by the first letters of its name
 * (conv_method); NULL: the one that costs least. */
void k_force_conv(const char *method);
const char *k_forced_conv(void);

/* --------------------------------------------------------------------------------------- threads
 * k_parallel runs fn(ctx, begin, end) over [0, n) in chunks of `grain` items, the last one shorter,
 * in any order on any thread. `worker` (k_worker(), 0 .. k_threads()-1) may pick a piece of
 * scratch memory, never a result. Not reentrant: a call inside fn runs at once on that thread. */
typedef void k_task(void *ctx, int64_t begin, int64_t end);
void k_parallel(int64_t n, int64_t grain, k_task *fn, void *ctx);
int k_worker(void);
int k_threads(void);
void k_set_threads(int n); /* 0: one for each CPU of this process */

#endif
