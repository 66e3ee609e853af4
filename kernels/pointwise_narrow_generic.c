/* pointwise_narrow_generic.c - elementwise operations of bf16, in plain loops; pointwise_plain.h
 * has them. */
#define K_NARROW 1
#include "pointwise_plain.h"

void k_pointwise_narrow_generic(k_table *t) { pointwise_plain(t); }
