/* pointwise_generic.c - elementwise operations in plain loops; pointwise_plain.h has them. */
#include "pointwise_plain.h"

void k_pointwise_generic(k_table *t) { pointwise_plain(t); }
