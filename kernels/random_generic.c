/* random_generic.c - what is drawn from the streams of philox.h: uniform and normal numbers,
 * dropout, the order of a shuffle.
 *
 * A shuffle sorts the places by a uniform key each. A key has 24 bits, so places do share keys from
 * some thousands on; the smaller place goes first, and any way of sorting gives the same order.
 *
 * Surprising: normal numbers come in pairs (Box-Muller of words 0, 1 and of words 2, 3), computed
 * in double, so that only the last bit may differ between mathematical libraries. */
#include "dropout_plain.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    k_draw draw;
    float lo, hi; /* uniform: the range; normal: mean and standard deviation */
    float *y;
} job;

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

static void uniform(int64_t n, const k_draw *d, float lo, float hi, float *y) {
    job j = {*d, lo, hi, y};
    k_parallel(n, GRAIN, uniform_range, &j);
}

static void normal(int64_t n, const k_draw *d, float mean, float std, float *y) {
    job j = {*d, mean, std, y};
    k_parallel(n, GRAIN, normal_range, &j);
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
