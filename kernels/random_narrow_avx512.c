/* random_narrow_avx512.c - dropout of bf16 in AVX-512; random_simd.h has the loop. */
#define K_NARROW 1
#include "random_simd.h"

void k_random_narrow_avx512(k_table *t) { random_simd(t); }
