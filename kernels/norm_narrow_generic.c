/* norm_narrow_generic.c - batch normalization of bf16, in plain loops; norm_plain.h has them. */
#define K_NARROW 1
#include "norm_plain.h"

void k_norm_narrow_generic(k_table *t) { norm_plain(t); }
