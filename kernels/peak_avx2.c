/* peak_avx2.c - a core's peak in AVX2; peak_simd.h has the loops. */
#include "peak_simd.h"

void k_peak_avx2(k_table *t) { peak_simd(t); }
