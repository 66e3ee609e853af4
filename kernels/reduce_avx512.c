/* reduce_avx512.c - reductions in AVX-512; reduce_simd.h has the loops. */
#include "reduce_simd.h"

void k_reduce_avx512(k_table *t) { reduce_simd(t); }
