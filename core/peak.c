/* peak.c - how many multiplications and additions the CPU does in a second at most.
 *
 * A burst of independent multiply-adds in registers, by the kernels in force, on all threads.
 * Surprising: it is cut into many more pieces than there are threads, so that one that wakes up
 * late only does fewer of them. */
#include "core.h"

#include <stdatomic.h>

enum { PIECES = 32 /* a thread */, ROUNDS = 1 << 15 /* a piece: 0.1 ms or so */ };

typedef struct {
    const k_table *k;
    k_dtype dtype;
    _Atomic int64_t operations;
} burst;

static void run_pieces(void *ctx, int64_t begin, int64_t end) {
    burst *b = ctx;
    float sink;
    for (; begin < end; begin++)
        atomic_fetch_add(&b->operations, b->k->peak(b->dtype, ROUNDS, &sink));
}

double cnn_cpu_flops(int bf16) {
    burst b = {.k = kernels_of(DEV_CPU), .dtype = bf16 ? K_BF16 : K_F32};
    double from = cnn_seconds();
    k_parallel((int64_t)PIECES * k_threads(), 1, run_pieces, &b);
    return (double)atomic_load(&b.operations) / (cnn_seconds() - from);
}
