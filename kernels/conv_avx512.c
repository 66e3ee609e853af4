/* conv_avx512.c - convolution in AVX-512 register tiles of 14 x 32; conv_tiles.h has the loops. */
#include "kernels.h"

#if defined(__AVX512F__)
#include "conv_tiles.h"
void k_conv_avx512(k_table *t) { conv_tiles(t); }
#else
void k_conv_avx512(k_table *t) { (void)t; }
#endif
