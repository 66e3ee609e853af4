/* reduce_avx2.c - reductions in AVX2; reduce_simd.h has the loops. */
#include "reduce_simd.h"

void k_reduce_avx2(k_table *t) { reduce_simd(t); }
