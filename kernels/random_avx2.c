/* random_avx2.c - random numbers in AVX2; random_simd.h has the loops. */
#include "random_simd.h"

void k_random_avx2(k_table *t) { random_simd(t); }
