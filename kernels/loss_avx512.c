/* loss_avx512.c - softmax and cross entropy in AVX-512; loss_simd.h has the loops. */
#include "loss_simd.h"

void k_loss_avx512(k_table *t) { loss_simd(t); }
