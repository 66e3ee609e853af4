/* norm_avx2.c - normalization in AVX2; norm_simd.h has the loops. */
#include "norm_simd.h"

void k_norm_avx2(k_table *t) { norm_simd(t); }
