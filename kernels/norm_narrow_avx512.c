/* norm_narrow_avx512.c - normalization of bf16 in AVX-512; norm_simd.h has the loops. */
#define K_NARROW 1
#include "norm_simd.h"

void k_norm_narrow_avx512(k_table *t) { norm_simd(t); }
