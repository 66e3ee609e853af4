/* pointwise_narrow_avx2.c - elementwise operations of bf16 in AVX2; pointwise_simd.h has the loops.
 */
#define K_NARROW 1
#include "pointwise_simd.h"

void k_pointwise_narrow_avx2(k_table *t) { pointwise_simd(t); }
