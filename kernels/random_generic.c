/* random_generic.c - random numbers out of a counter: Philox4x32-10 (Salmon et al., SC'11).
 *
 * Contract: element i of a stream is a function of (seed, stream, i) alone; whoever asks for it,
 * on whichever device or thread, gets the same number. The counter is {i / 4, stream}, the key the
 * seed, each 64 bits with the low word first; element i is word i % 4 of the block.
 *
 * A shuffle sorts the places by a uniform key each. A key has 24 bits, so places do share keys from
 * some thousands on; the smaller place goes first, and any way of sorting gives the same order.
 *
 * Surprising: normal numbers come in pairs (Box-Muller of words 0, 1 and of words 2, 3), computed
 * in double, so that only the last bit may differ between mathematical libraries. */
#include "kernels.h"
#include "strided.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 4, GRAIN = 1 << 14 /* elements, a multiple of BLOCK */ };

typedef struct {
    k_draw draw;
    float lo, hi; /* uniform: the range; normal: mean and standard deviation; dropout: p, - */
    const float *x;
    float *y;
} job;

static void philox(uint64_t counter, const k_draw *d, uint32_t word[BLOCK]) {
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
static float unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Elements i, i + 1, .. of one block, i a multiple of BLOCK: at most BLOCK, and before `end`. */
#define FOR_BLOCKS(i, begin, end) for (int64_t i = (begin); i < (end); i += BLOCK)
#define FOR_ELEMENTS(k, i, end)   for (int64_t k = 0, to = k_min(BLOCK, (end) - (i)); k < to; k++)

static void uniform_range(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    uint32_t word[BLOCK];
    FOR_BLOCKS(i, begin, end) {
        philox(i / BLOCK, &j->draw, word);
        FOR_ELEMENTS(k, i, end) j->y[i + k] = j->lo + (j->hi - j->lo) * unit(word[k]);
    }
}

static void normal_range(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    uint32_t word[BLOCK];
    FOR_BLOCKS(i, begin, end) {
        double z[BLOCK];
        philox(i / BLOCK, &j->draw, word);
        for (int pair = 0; pair < BLOCK; pair += 2) {
            double u1 = ((word[pair] >> 8) + 1) * 0x1p-24, u2 = (word[pair + 1] >> 8) * 0x1p-24;
            double r = sqrt(-2 * log(u1));
            z[pair] = r * cos(2 * M_PI * u2);
            z[pair + 1] = r * sin(2 * M_PI * u2);
        }
        FOR_ELEMENTS(k, i, end) j->y[i + k] = j->lo + j->hi * z[k];
    }
}

static void dropout_range(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    float scale = 1 / (1 - j->lo);
    uint32_t word[BLOCK];
    FOR_BLOCKS(i, begin, end) {
        philox(i / BLOCK, &j->draw, word);
        FOR_ELEMENTS(k, i, end) j->y[i + k] = unit(word[k]) < j->lo ? 0 : j->x[i + k] * scale;
    }
}

static void uniform(int64_t n, const k_draw *d, float lo, float hi, float *y) {
    job j = {*d, lo, hi, NULL, y};
    k_parallel(n, GRAIN, uniform_range, &j);
}

static void normal(int64_t n, const k_draw *d, float mean, float std, float *y) {
    job j = {*d, mean, std, NULL, y};
    k_parallel(n, GRAIN, normal_range, &j);
}

static void dropout(int64_t n, const k_draw *d, float p, const float *x, float *y) {
    job j = {*d, p, 0, x, y};
    k_parallel(n, GRAIN, dropout_range, &j);
}

/* ------------------------------------------------------------------------------------- shuffle */

typedef struct {
    float key;
    int32_t place;
} card;

typedef struct {
    k_draw draw;
    card *card;
} deal;

static void deal_range(void *ctx, int64_t begin, int64_t end) {
    const deal *j = ctx;
    uint32_t word[BLOCK];
    FOR_BLOCKS(i, begin, end) {
        philox(i / BLOCK, &j->draw, word);
        FOR_ELEMENTS(k, i, end) j->card[i + k] = (card){unit(word[k]), (int32_t)(i + k)};
    }
}

static int card_order(const void *p, const void *q) {
    const card *a = p, *b = q;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static int64_t shuffle_scratch(int64_t n) { return n * (int64_t)sizeof(card); }

static void shuffle(int64_t n, const k_draw *d, int32_t *order, void *scratch) {
    deal j = {*d, scratch};
    k_parallel(n, GRAIN, deal_range, &j);
    if (n > 1) qsort(j.card, (size_t)n, sizeof *j.card, card_order);
    for (int64_t i = 0; i < n; i++) order[i] = j.card[i].place;
}

void k_random_generic(k_table *t) {
    t->uniform = uniform;
    t->normal = normal;
    t->dropout = dropout;
    t->shuffle = shuffle;
    t->shuffle_scratch = shuffle_scratch;
}
