/* peak_avx512.c - a core's peak in AVX-512; peak_simd.h has the loops. */
#include "peak_simd.h"

void k_peak_avx512(k_table *t) { peak_simd(t); }
