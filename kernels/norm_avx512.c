/* norm_avx512.c - normalization in AVX-512; norm_simd.h has the loops. */
#include "norm_simd.h"

void k_norm_avx512(k_table *t) { norm_simd(t); }
