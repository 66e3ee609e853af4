/* pointwise_avx2.c - elementwise operations in AVX2; pointwise_simd.h has the loops. */
#include "pointwise_simd.h"

void k_pointwise_avx2(k_table *t) { pointwise_simd(t); }
