/* pool_window.h - which input pixels an output pixel of a pooling sees, along one axis.
 *
 * Surprising: windows of an adaptive pooling (k = 0) overlap when the sizes do not divide, so an
 * input pixel may lie in several of them, as it does where k exceeds the stride. */
#ifndef CNN_POOL_WINDOW_H
#define CNN_POOL_WINDOW_H

#include "strided.h"

/* One axis: `in` input pixels, `out` windows of k (0: adaptive) at stride s with padding p. */
typedef struct {
    int64_t in, out, k, s, p;
} k_axis;

/* The first tap of window o that is a real pixel, and the end of the real ones, as pixels. */
static inline int64_t k_window_begin(const k_axis *a, int64_t o) {
    return a->k ? k_max(o * a->s - a->p, 0) : o * a->in / a->out;
}
static inline int64_t k_window_end(const k_axis *a, int64_t o) {
    return a->k ? k_min(o * a->s - a->p + a->k, a->in) : ((o + 1) * a->in + a->out - 1) / a->out;
}

/* The first window that reaches pixel i, and the end of those. */
static inline int64_t k_covering_begin(const k_axis *a, int64_t i) {
    if (!a->k) return i * a->out / a->in;
    int64_t past = i + a->p - a->k; /* windows that start here or before end before i */
    return past < 0 ? 0 : past / a->s + 1;
}
static inline int64_t k_covering_end(const k_axis *a, int64_t i) {
    if (!a->k) return ((i + 1) * a->out + a->in - 1) / a->in;
    return k_min((i + a->p) / a->s + 1, a->out);
}

#define K_AXIS_Y(s)                                                                                \
    { (s)->h, (s)->oh, (s)->kh, (s)->sh, (s)->ph }
#define K_AXIS_X(s)                                                                                \
    { (s)->w, (s)->ow, (s)->kw, (s)->sw, (s)->pw }

#endif
