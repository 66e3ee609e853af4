/* pointwise_avx512.c - elementwise operations in AVX-512; pointwise_simd.h has the loops. */
#include "pointwise_simd.h"

void k_pointwise_avx512(k_table *t) { pointwise_simd(t); }
