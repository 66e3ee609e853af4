/* strided.h - positions of a strided array, counted in row-major order.
 *
 * One division a dimension: call it once a run of the innermost dimension, not once an element. */
#ifndef CNN_STRIDED_H
#define CNN_STRIDED_H

#include <stdint.h>

static inline int64_t k_count(int nd, const int64_t *size) {
    int64_t n = 1;
    for (int d = 0; d < nd; d++) n *= size[d];
    return n;
}

/* Where position i of the nd dimensions lies, in elements. */
static inline int64_t k_offset(int nd, const int64_t *size, const int64_t *stride, int64_t i) {
    int64_t offset = 0;
    for (int d = nd - 1; d > 0; d--) {
        offset += i % size[d] * stride[d];
        i /= size[d];
    }
    return nd ? offset + i * stride[0] : 0;
}

static inline int64_t k_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t k_max(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
