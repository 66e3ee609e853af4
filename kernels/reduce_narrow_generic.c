/* reduce_narrow_generic.c - sums of bf16 in plain loops; reduce_plain.h has them. */
#define K_NARROW 1
#include "reduce_plain.h"

void k_reduce_narrow_generic(k_table *t) { reduce_plain(t); }
