/* conv_finish.h - what a convolution does besides (k_join): to x while a block of it is copied, and
 * to y as soon as a block of its rows is complete. Every method of convolution (conv_choice.h)
 * calls the same functions, so that each can do all of it.
 *
 * A vector of y costs one load and one store more, from the first or second cache, where a layer of
 * 64 channels and 3x3 taps spent 576 FMAs on it. A bias alone costs nothing: sums start with it.
 *
 * Surprising: the padding stays 0. It is zeros behind x' = max(x * in_gain + in_shift, 0), so what
 * is copied is changed and zeros beside it are not. */
#ifndef CNN_CONV_FINISH_H
#define CNN_CONV_FINISH_H

#include "tile.h"

/* ------------------------------------------------------------------------------------ the way in
 * Channels [c, c + n) of a pixel; n <= LANES. j may be NULL: as they are. */
INLINE vec entering(const k_join *j, vec x, int64_t c, int64_t n) {
    if (!j || !j->in_gain) return x;
    x = vec_fma(x, vec_load_upto(j->in_gain + c, n), vec_load_upto(j->in_shift + c, n));
    return j->in_relu ? vec_max(vec_set(0), x) : x;
}

/* Copies n channels of a pixel, of which the first is channel c. */
static inline void copy_entering(const k_join *j, float *to, const float *from, int64_t c,
                                 int64_t n) {
    if (!j || !j->in_gain) {
        copy_floats(to, from, n);
        return;
    }
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t part = k_min(n - i, LANES);
        vec_store_upto(to + i, entering(j, vec_load_upto(from + i, part), c + i, part), part);
    }
}

/* ----------------------------------------------------------------------------------- the way out
 */

/* The bias that sums may start with: a gain comes before it. */
static const float *first_bias(const k_join *j) { return j->gain ? NULL : j->bias; }

static int finishes(const k_join *j) { return j->gain || j->add || j->relu; }

/* y = relu(y * gain + bias + add) for rows [row, row + rows) and channels [col, col + cols) of y,
 * the matrix of n * oh * ow pixels with row stride ldy; the sums started with first_bias. */
static void finish_rows(const k_join *j, float *y, int64_t ldy, int64_t row, int64_t rows,
                        int64_t col, int64_t cols) {
    if (!finishes(j)) return;
    for (int64_t i = row; i < row + rows; i++)
        for (int64_t k = col; k < col + cols; k += LANES) {
            int64_t n = k_min(col + cols - k, LANES);
            vec v = vec_load_upto(y + i * ldy + k, n);
            if (j->gain) {
                vec bias = j->bias ? vec_load_upto(j->bias + k, n) : vec_set(0);
                v = vec_fma(v, vec_load_upto(j->gain + k, n), bias);
            }
            if (j->add) v += vec_load_upto(j->add + i * j->ldadd + k, n);
            if (j->relu) v = vec_max(vec_set(0), v);
            vec_store_upto(y + i * ldy + k, v, n);
        }
}

#endif
