/* pool_narrow_generic.c - max and average pooling of bf16, in plain loops; pool_plain.h has them.
 */
#define K_NARROW 1
#include "pool_plain.h"

void k_pool_narrow_generic(k_table *t) { pool_plain(t); }
