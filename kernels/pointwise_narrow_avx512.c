/* pointwise_narrow_avx512.c - elementwise operations of bf16 in AVX-512; pointwise_simd.h has the
 * loops. */
#define K_NARROW 1
#include "pointwise_simd.h"

void k_pointwise_narrow_avx512(k_table *t) { pointwise_simd(t); }
