/* philox.h - random numbers out of a counter: Philox4x32-10 (Salmon et al., SC'11).
 *
 * Contract: element i of a stream is a function of (seed, stream, i) alone; whoever asks for it,
 * on whichever device or thread, gets the same number. The counter is {i / 4, stream}, the key the
 * seed, each 64 bits with the low word first; element i is word i % 4 of the block.
 *
 * Surprising: there is no state at all; a thread begins wherever its elements do. */
#ifndef CNN_PHILOX_H
#define CNN_PHILOX_H

#include "kernels.h"
#include "strided.h"

enum { BLOCK = 4, GRAIN = 1 << 14 /* elements, a multiple of BLOCK */ };

static inline void philox(uint64_t counter, const k_draw *d, uint32_t word[BLOCK]) {
    uint32_t c0 = counter, c1 = counter >> 32, c2 = d->stream, c3 = d->stream >> 32;
    uint32_t k0 = d->seed, k1 = d->seed >> 32;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9; /* the golden ratio and sqrt(3) - 1, as fractions of 2^32 */
        k1 += 0xBB67AE85;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/* [0, 1) in steps of 2^-24, exact in float. */
static inline float unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Elements i, i + 1, .. of one block, i a multiple of BLOCK: at most BLOCK, and before `end`. */
#define FOR_BLOCKS(i, begin, end) for (int64_t i = (begin); i < (end); i += BLOCK)
#define FOR_ELEMENTS(k, i, end)   for (int64_t k = 0, to = k_min(BLOCK, (end) - (i)); k < to; k++)

#endif
