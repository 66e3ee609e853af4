/* images_generic.c - the pictures of a batch out of a data set's bytes.
 *
 * Contract: kernels.h. A byte is worth byte / 255; a picture is resized bilinearly as core/resize.c
 * does it, with its float formulas for positions and weights and its order of sums: along a row
 * first, then between two rows. So both give the same bits.
 *
 * Surprising: at its own size a picture comes out as it is: each position then falls on a pixel,
 * with the weights 1 and 0. */
#include "kernels.h"

typedef struct {
    int64_t first, second; /* an output position lies between these two inputs, */
    float w1, w2;          /* with these weights */
} between;

typedef struct {
    const k_images *s;
    const uint8_t *pixels, *labels;
    const int32_t *order;
    float *x;
    int32_t *y;
} job;

/* Position i of `to` on an axis of `from` pixels: pixel centres are mapped, the border repeats. */
static between axis(int64_t i, int64_t from, int64_t to) {
    float scale = (float)from / (float)to;
    float at = ((float)i + 0.5f) * scale - 0.5f;
    if (at < 0) at = 0;
    int64_t low = (int64_t)at;
    if (low > from - 1) low = from - 1;
    float w2 = at - (float)low;
    if (w2 > 1) w2 = 1;
    return (between){low, low < from - 1 ? low + 1 : low, 1 - w2, w2};
}

static float value(uint8_t byte) { return (float)byte / 255.0f; }

/* Channel c of row y, between two of its pixels. */
static float along(const k_images *s, const uint8_t *picture, int64_t y, between a, int64_t c) {
    const uint8_t *row = picture + y * s->w * s->c + c;
    return value(row[a.first * s->c]) * a.w1 + value(row[a.second * s->c]) * a.w2;
}

static void picture_make(const k_images *s, const uint8_t *picture, float *x) {
    for (int64_t oy = 0; oy < s->oh; oy++) {
        between down = axis(oy, s->h, s->oh);
        for (int64_t ox = 0; ox < s->ow; ox++) {
            between across = axis(ox, s->w, s->ow);
            for (int64_t c = 0; c < s->c; c++)
                *x++ = along(s, picture, down.first, across, c) * down.w1 +
                       along(s, picture, down.second, across, c) * down.w2;
        }
    }
}

static void pictures(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_images *s = j->s;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = j->order ? j->order[s->first + i] : s->first + i;
        if (j->x)
            picture_make(s, j->pixels + at * s->h * s->w * s->c, j->x + i * s->oh * s->ow * s->c);
        if (j->y) j->y[i] = j->labels[at] + 1;
    }
}

static void images(const k_images *s, const uint8_t *pixels, const uint8_t *labels,
                   const int32_t *order, float *x, int32_t *y) {
    job j = {s, pixels, labels, order, x, y};
    k_parallel(s->n, 1, pictures, &j);
}

void k_images_generic(k_table *t) { t->images = images; }
