/* conv_window.h - what a block of a convolution reads: where outputs and taps meet in the source,
 * and copies of it in which the pixels of a tile lie at a constant stride.
 *
 * Surprising: an axis serves all directions. For the data gradient the source is dy, and the
 * outputs are the dx of one phase of the strides. */
#ifndef CNN_CONV_WINDOW_H
#define CNN_CONV_WINDOW_H

#include "conv_finish.h"

/* --------------------------------------------------------------------------------- the source
 * x, or dy for the data gradient. Along an axis output i and tap t meet at pixel
 * base + i * stride + t * step, step > 0. */
typedef struct {
    int64_t size, out, taps, base, stride, step;
} axis;

typedef struct {
    const float *from; /* n pictures of y.size * x.size pixels, row stride ld */
    int64_t n, ld, c;  /* c channels of a group */
    axis y, x;
    const k_join *join; /* what becomes of a pixel as it is read, or NULL */
    int64_t first;      /* its channel of the group's first */
} source;

typedef struct {
    int64_t begin, end;
} range;

static int64_t size_of(range r) { return r.end - r.begin; }

/* The taps that find a pixel for output i. */
static range taps_inside(const axis *a, int64_t i) {
    int64_t first = a->base + i * a->stride;
    range r = {first < 0 ? ceil_div(-first, a->step) : 0,
               k_min(a->taps, ceil_div(a->size - first, a->step))};
    if (r.begin >= r.end) r = (range){0, 0};
    return r;
}

/* The outputs for which tap t finds a pixel. */
static range outputs_inside(const axis *a, int64_t t) {
    axis transposed = {
        .size = a->size, .taps = a->out, .base = a->base + t * a->step, .step = a->stride};
    return taps_inside(&transposed, 0);
}

/* Pixels a line of outputs reaches. */
static int64_t reach(const axis *a, int64_t outputs) {
    return (outputs - 1) * a->stride + (a->taps - 1) * a->step + 1;
}

/* Are pixels other numbers where they are multiplied than where they lie? */
static int enters_changed(const source *s) { return s->join && s->join->in_gain; }

static int no_padding(const axis *a) {
    return a->base >= 0 && a->base + reach(a, a->out) <= a->size;
}

/* ---------------------------------------------------------------------------------- the window
 * A piece of the source, in place or copied: pixel (y, x) of the source is `at`. */
typedef struct {
    const float *at;
    int64_t line, pixel; /* strides, in floats */
    int64_t y, x;
} window;

/* Floats from a copied pixel to the next. Wide pixels keep off the powers of two, which fall into
 * the same set of the first cache; the taps of a line of narrow ones lie together. */
static int64_t pixel_stride(int64_t c) { return c < 256 ? c : odd_stride(c); }

static int64_t window_size(const source *s, int64_t outputs) {
    return reach(&s->y, outputs) * reach(&s->x, s->x.out) * pixel_stride(s->c) + TILE_COLS;
}

/* Copies what output lines [y, y + outputs) of picture n need, with zeros beside the lines. */
static window copy_lines(const source *s, int64_t n, int64_t y, int64_t outputs, float *to) {
    int64_t first = s->y.base + y * s->y.stride, begin = k_max(first, 0);
    int64_t end = k_min(first + reach(&s->y, outputs), s->y.size);
    int64_t pixel = pixel_stride(s->c), width = reach(&s->x, s->x.out);
    int64_t left = k_min(k_max(-s->x.base, 0), width);
    int64_t right = k_max(k_min(s->x.size - s->x.base, width), left);
    window w = {to, width * pixel, pixel, begin, s->x.base};
    for (int64_t i = begin; i < end; i++, to += w.line) {
        const float *from = s->from + ((n * s->y.size + i) * s->x.size + s->x.base) * s->ld;
        zero_floats(to, left * pixel);
        if (pixel == s->ld && !enters_changed(s))
            copy_floats(to + left * pixel, from + left * pixel, (right - left) * pixel);
        else
            for (int64_t j = left; j < right; j++)
                copy_entering(s->join, to + j * pixel, from + j * s->ld, s->first, s->c);
        zero_floats(to + right * pixel, (width - right) * pixel);
    }
    return w;
}

static window lines_in_place(const source *s, int64_t n) {
    return (window){s->from + n * s->y.size * s->x.size * s->ld, s->x.size * s->ld, s->ld, 0, 0};
}

/* Copies pictures [n, n + count) so that equal pixels lie side by side. */
static window copy_pictures(const source *s, int64_t n, int64_t count, float *to) {
    int64_t stride = odd_stride(s->c), pixels = s->y.size * s->x.size;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < pixels; j++)
            copy_entering(s->join, to + (j * count + i) * stride,
                          s->from + ((n + i) * pixels + j) * s->ld, s->first, s->c);
    return (window){to, s->x.size * count * stride, count * stride, 0, 0};
}

/* Do the taps of a line lie together in the window? */
static int taps_together(const source *s, const window *w) {
    return w->pixel == s->c && s->x.step == 1;
}

#endif
