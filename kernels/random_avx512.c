/* random_avx512.c - random numbers in AVX-512; random_simd.h has the loops. */
#include "random_simd.h"

void k_random_avx512(k_table *t) { random_simd(t); }
