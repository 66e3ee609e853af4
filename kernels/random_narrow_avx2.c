/* random_narrow_avx2.c - dropout of bf16 in AVX2; random_simd.h has the loop. */
#define K_NARROW 1
#include "random_simd.h"

void k_random_narrow_avx2(k_table *t) { random_simd(t); }
