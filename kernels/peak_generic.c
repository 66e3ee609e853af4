/* peak_generic.c - multiply-adds that touch no memory, as the compiler makes them of plain loops.
 *
 * Surprising: this is the peak of this build's plainest instructions, not of the CPU: where no
 * better variant runs, it is what the generic kernels can be measured by. */
#include "kernels.h"

enum { CHAINS = 32 };

static int64_t peak(k_dtype dtype, int64_t rounds, float *sink) {
    if (dtype != K_F32) return 0;
    float x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = (float)i;
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) x[i] = x[i] * 0.5f + 0.5f;
    for (int i = 1; i < CHAINS; i++) x[0] += x[i];
    *sink = x[0];
    return rounds * CHAINS * 2;
}

void k_peak_generic(k_table *t) { t->peak = peak; }
