/* loss_avx2.c - softmax and cross entropy in AVX2; loss_simd.h has the loops. */
#include "loss_simd.h"

void k_loss_avx2(k_table *t) { loss_simd(t); }
