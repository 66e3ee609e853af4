/* card.h - what the files of the CUDA library know of each other: *_cuda.cu, *_cublas.c, *_cudnn.c.
 *
 * The table of a card is filled like the CPU's, worst to best: cuda (kernels of our own, every
 * slot) < cublas < cudnn (where those libraries are found when the program runs). Each file
 * overlays its slots; the two of the libraries answer whether they could.
 *
 * Surprising: nothing here needs a CUDA header, so the libraries' files stay C. */
#ifndef CNN_CARD_H
#define CNN_CARD_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The one stream on which everything runs: a cudaStream_t. */
void *k_stream(void);

/* The values that change from one run of a recorded step to the next (a dropout's k_draw, an
 * optimizer's k_sgd or k_adam, the k_images of a batch) lie in device memory while a step is
 * captured into a graph, and here is where the op being captured finds its own: a struct of the
 * same type as the argument, whose fields are to be used instead of it. NULL: take the argument. */
const void *k_live(void);

k_precision k_precision_now(void);
int k_deterministic(void);
int k_autotune(void);
/* A library call failed: the device's check() answers the first of these lines, once. */
void k_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

void k_pointwise_cuda(k_table *t);
void k_reduce_cuda(k_table *t);
void k_norm_cuda(k_table *t);
void k_pool_cuda(k_table *t);
void k_loss_cuda(k_table *t);
void k_random_cuda(k_table *t);
void k_storage_cuda(k_table *t);
void k_images_cuda(k_table *t);
void k_optim_cuda(k_table *t);
void k_conv_cuda(k_table *t);
void k_gemm_cuda(k_table *t);
/* The same families for bf16 activations, over a copy of the table above (kernels.h says which
 * slots). */
void k_pointwise_narrow_cuda(k_table *t);
void k_reduce_narrow_cuda(k_table *t);
void k_norm_narrow_cuda(k_table *t);
void k_pool_narrow_cuda(k_table *t);
void k_random_narrow_cuda(k_table *t);
void k_images_narrow_cuda(k_table *t);
void k_product_narrow_cuda(k_table *t);         /* convolutions and products */
int k_gemm_cublas(k_table *t, k_table *narrow); /* 0, or -1 when the library is not there */
int k_conv_cudnn(k_table *t, k_table *narrow);
int k_cublas_version(void); /* 0: not there */
int k_cudnn_version(void);
const char *k_cudnn_why(void);
int k_cudnn_plan_text(const k_conv *s, k_direction direction, int joined, k_precision p,
                      const char *card, char *text, size_t n);

/* Matrices of float32 to bf16, and back, by row strides of ldx and ldy elements. */
void k_narrow_rows(int64_t rows, int64_t c, int64_t ldx, const float *x, int64_t ldy, void *y);
void k_widen_rows(int64_t rows, int64_t c, int64_t ldx, const void *x, int64_t ldy, float *y);

#ifdef __cplusplus
}
#endif
#endif
