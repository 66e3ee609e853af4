/* random_narrow_generic.c - dropout of bf16; dropout_plain.h has the loop. */
#define K_NARROW 1
#include "dropout_plain.h"

void k_random_narrow_generic(k_table *t) { t->dropout = dropout; }
