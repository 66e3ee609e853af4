/* reduce_narrow_avx512.c - sums of bf16 in AVX-512; reduce_simd.h has the loops. */
#define K_NARROW 1
#include "reduce_simd.h"

void k_reduce_narrow_avx512(k_table *t) { reduce_simd(t); }
