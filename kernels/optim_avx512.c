/* optim_avx512.c - optimizers in AVX-512; optim_simd.h has the loops. */
#include "optim_simd.h"

void k_optim_avx512(k_table *t) { optim_simd(t); }
