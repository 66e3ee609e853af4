/* conv_avx2.c - convolution in AVX2 register tiles of 6 x 16; conv_choice.h has the methods. */
#include "kernels.h"

#if defined(__AVX2__)
#include "conv_choice.h"
void k_conv_avx2(k_table *t) { conv_choice(t); }
#else
void k_conv_avx2(k_table *t) { (void)t; }
#endif
