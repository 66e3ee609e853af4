/* reduce_narrow_avx2.c - sums of bf16 in AVX2; reduce_simd.h has the loops. */
#define K_NARROW 1
#include "reduce_simd.h"

void k_reduce_narrow_avx2(k_table *t) { reduce_simd(t); }
