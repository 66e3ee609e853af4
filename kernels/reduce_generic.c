/* reduce_generic.c - reductions in plain loops; reduce_plain.h has them. */
#include "reduce_plain.h"

/* A kept position is folded where it is met. */
static int64_t reduce_scratch(const k_reduce *r) {
    (void)r;
    return 0;
}

void k_reduce_generic(k_table *t) {
    reduce_plain(t);
    t->reduce_scratch = reduce_scratch;
}
