/* optim_avx2.c - optimizers in AVX2; optim_simd.h has the loops. */
#include "optim_simd.h"

void k_optim_avx2(k_table *t) { optim_simd(t); }
