/* images_generic.c - the pictures of a batch out of a data set's bytes; pictures of floats,
 * resized.
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

/* A picture: bytes, or floats, and the distances of its rows, pixels and channels. */
typedef struct {
    const uint8_t *bytes;
    const float *floats;
    int64_t row, pixel, channel;
} picture;

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

static float value(const picture *p, int64_t y, int64_t x, int64_t c) {
    int64_t at = y * p->row + x * p->pixel + c * p->channel;
    return p->bytes ? (float)p->bytes[at] / 255.0f : p->floats[at];
}

/* Channel c of row y, between two of its pixels. */
static float along(const picture *p, int64_t y, between a, int64_t c) {
    return value(p, y, a.first, c) * a.w1 + value(p, y, a.second, c) * a.w2;
}

static void picture_make(const k_images *s, const picture *p, float *x) {
    for (int64_t oy = 0; oy < s->oh; oy++) {
        between down = axis(oy, s->h, s->oh);
        for (int64_t ox = 0; ox < s->ow; ox++) {
            between across = axis(ox, s->w, s->ow);
            for (int64_t c = 0; c < s->c; c++)
                *x++ = along(p, down.first, across, c) * down.w1 +
                       along(p, down.second, across, c) * down.w2;
        }
    }
}

static void pictures(void *ctx, int64_t begin, int64_t end) {
    const job *j = ctx;
    const k_images *s = j->s;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = j->order ? j->order[s->first + i] : s->first + i;
        picture p = {j->pixels + at * s->h * s->w * s->c, 0, s->w * s->c, s->c, 1};
        if (j->x) picture_make(s, &p, j->x + i * s->oh * s->ow * s->c);
        if (j->y) j->y[i] = j->labels[at] + 1;
    }
}

static void images(const k_images *s, const uint8_t *pixels, const uint8_t *labels,
                   const int32_t *order, float *x, int32_t *y) {
    job j = {s, pixels, labels, order, x, y};
    k_parallel(s->n, 1, pictures, &j);
}

static void resize(const k_images *s, const int64_t stride[4], const float *x, float *y) {
    for (int64_t i = 0; i < s->n; i++) {
        picture p = {0, x + i * stride[0], stride[1], stride[2], stride[3]};
        picture_make(s, &p, y + i * s->oh * s->ow * s->c);
    }
}

void k_images_generic(k_table *t) {
    t->images = images;
    t->resize = resize;
}
