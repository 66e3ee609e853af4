/* memory_cuda.h - the pool of memory_cuda.cu, and the two calls of the card's that it rests on. */
#ifndef CNN_MEMORY_CUDA_H
#define CNN_MEMORY_CUDA_H

#include "device.h"

void *k_pool_take(int64_t bytes); /* 256-byte aligned (but under AddressSanitizer); NULL: no room */
void k_pool_give(void *p);
void k_pool_trim(void);
void k_pool_capture(int on); /* what is taken from now on is for a graph, or not */
void k_pool_graphs_gone(void);
void k_pool_memory(k_memory *m); /* in_use, peak, held */
void k_pool_reset_peak(void);

/* device_cuda.cu's: memory of the card; NULL when there is none left. */
void *k_card_malloc(int64_t bytes);
void k_card_free(void *p);

#endif
