/* conv_avx512.c - convolution in AVX-512 register tiles of 14 x 32; conv_choice.h has the methods.
 */
#include "kernels.h"

#if defined(__AVX512F__)
#include "conv_choice.h"
void k_conv_avx512(k_table *t) { conv_choice(t); }
#else
void k_conv_avx512(k_table *t) { (void)t; }
#endif
