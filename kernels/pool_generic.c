/* pool_generic.c - max and average pooling in plain loops; pool_plain.h has them. */
#include "pool_plain.h"

void k_pool_generic(k_table *t) { pool_plain(t); }
