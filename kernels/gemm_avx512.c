/* gemm_avx512.c - the matrix product in AVX-512 register tiles of 14 x 32; gemm_tiles.h has the
 * loops. */
#include "kernels.h"

#if defined(__AVX512F__)
#include "gemm_tiles.h"
void k_gemm_avx512(k_table *t) { gemm_tiles(t); }
#else
void k_gemm_avx512(k_table *t) { (void)t; }
#endif
