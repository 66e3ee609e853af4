/* dropout_plain.h - dropout, the one random op of activations; its mask is never stored.
 *
 * Surprising: it costs ten rounds of Philox for four elements, so it waits for arithmetic. */
#include "element.h"
#include "philox.h"

typedef struct {
    k_draw draw;
    float p;
    const element *x;
    element *y;
} dropout_job;

static void dropout_range(void *ctx, int64_t begin, int64_t end) {
    const dropout_job *j = ctx;
    const float scale = 1 / (1 - j->p);
    uint32_t word[BLOCK];
    FOR_BLOCKS(i, begin, end) {
        philox(i / BLOCK, &j->draw, word);
        FOR_ELEMENTS(k, i, end) {
            float y = unit(word[k]) < j->p ? 0 : from_element(j->x[i + k]) * scale;
            j->y[i + k] = to_element(y);
        }
    }
}

static void dropout(int64_t n, const k_draw *d, float p, const float *x, float *y) {
    dropout_job j = {*d, p, elements_of(x), elements(y)};
    k_parallel(n, GRAIN, dropout_range, &j);
}
