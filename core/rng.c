/* rng.c - which random numbers an op draws: a seed and a stream.
 *
 * Counter-based (Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11): element i of stream s under seed k is word i % 4 of philox(counter = {i / 4, s}, key =
 * k), so any element can be computed anywhere and nothing is ever fast-forwarded. Every random op
 * takes the next stream; step k of a training run starts at stream k << 20.
 *
 * Surprising: a random tensor draws its values when it is first used, but takes its stream when it
 * is made: the order of use does not change them. */
#include "core.h"

static uint64_t seed = 1, stream;

enum { STEP_SHIFT = 20 };

void cnn_manual_seed(uint64_t s) {
    seed = s;
    stream = 0;
}
uint64_t cnn_seed(void) { return seed; }
void cnn_rng_step(int64_t step) { stream = (uint64_t)step << STEP_SHIFT; }
uint64_t cnn_rng_stream(void) { return stream; }
void cnn_set_rng_stream(uint64_t s) { stream = s; }
uint64_t rng_next_stream(void) { return stream++; }

/* Sorted by a random key each, ties by place: a shuffle that a card makes as well. */
int cnn_permutation(int64_t n, uint64_t s, uint64_t st, int32_t *order) {
    if (n < 0 || n > INT32_MAX) return fail("permutation: expected 0 to %d items", INT32_MAX);
    const k_table *k = kernels_of(DEV_CPU);
    const k_draw d = {s, st};
    int64_t bytes = k->shuffle_scratch(n);
    void *scratch = memory_take(bytes);
    if (!scratch) return -1;
    k->shuffle(n, &d, order, scratch);
    memory_give(scratch, bytes);
    return 0;
}
