/* pool_narrow_avx2.c - pooling of bf16 in AVX2; pool_simd.h has the loops. */
#define K_NARROW 1
#include "pool_simd.h"

void k_pool_narrow_avx2(k_table *t) { pool_simd(t); }
