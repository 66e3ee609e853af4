/* pool_avx512.c - pooling in AVX-512; pool_simd.h has the loops. */
#include "pool_simd.h"

void k_pool_avx512(k_table *t) { pool_simd(t); }
