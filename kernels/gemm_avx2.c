/* gemm_avx2.c - the matrix product in AVX2 register tiles of 6 x 16; gemm_tiles.h has the loops. */
#include "kernels.h"

#if defined(__AVX2__)
#include "gemm_tiles.h"
void k_gemm_avx2(k_table *t) { gemm_tiles(t); }
#else
void k_gemm_avx2(k_table *t) { (void)t; }
#endif
