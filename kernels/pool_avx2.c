/* pool_avx2.c - pooling in AVX2; pool_simd.h has the loops. */
#include "pool_simd.h"

void k_pool_avx2(k_table *t) { pool_simd(t); }
