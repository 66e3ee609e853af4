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

/* Windows [begin, end). */
typedef struct {
    int64_t begin, end;
} k_span;

/* Moves `w`, {0, 0} at first, on to the windows that reach pixel i. Call it with rising i. */
static inline void k_cover(const k_axis *a, int64_t i, k_span *w) {
    while (w->begin < a->out && k_window_end(a, w->begin) <= i) w->begin++;
    while (w->end < a->out && k_window_begin(a, w->end) <= i) w->end++;
}

#define K_AXIS_Y(s)                                                                                \
    { (s)->h, (s)->oh, (s)->kh, (s)->sh, (s)->ph }
#define K_AXIS_X(s)                                                                                \
    { (s)->w, (s)->ow, (s)->kw, (s)->sw, (s)->pw }

#endif
