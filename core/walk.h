/* walk.h - the values of a tensor in logical order, a row of the last axis at a time, whatever the
 * strides: how files, pictures and data sets see a tensor.
 *
 * Contract: x's value is ready (cnn_data was called). `row` is the first element of a row, `length`
 * its elements, `step` the bytes from one to the next. A single number is a row of one. */
#ifndef CNN_WALK_H
#define CNN_WALK_H
#include "core.h"

#include <string.h>

typedef struct {
    const cnn_tensor *x;
    int64_t index[CNN_MAX_DIM];
    int started;
    char *row;
    int64_t length, step;
} row_walk;

static inline row_walk rows_of(const cnn_tensor *x) {
    int64_t bytes = dtype_bytes[tensor_dtype(x)];
    int last = x->nd - 1;
    return (row_walk){.x = x,
                      .row = tensor_ptr(x),
                      .length = last < 0 ? 1 : x->size[last],
                      .step = last < 0 ? bytes : x->stride[last] * bytes};
}

/* Goes to the first row, then to the next one; 0 at the end. */
static inline int rows_next(row_walk *w) {
    const cnn_tensor *x = w->x;
    int64_t bytes = dtype_bytes[tensor_dtype(x)];
    if (!w->started) {
        w->started = 1;
        return tensor_numel(x) > 0;
    }
    for (int d = x->nd - 2; d >= 0; d--) {
        w->row += x->stride[d] * bytes;
        if (++w->index[d] < x->size[d]) return 1;
        w->row -= x->size[d] * x->stride[d] * bytes;
        w->index[d] = 0;
    }
    return 0;
}

/* n elements of 1, 2 or 4 bytes, from one distance to another. */
static inline void elements_copy(char *to, int64_t to_step, const char *from, int64_t from_step,
                                 int64_t n, int bytes) {
    if (to_step == bytes && from_step == bytes) {
        memcpy(to, from, (size_t)(n * bytes));
        return;
    }
    for (int64_t i = 0; i < n; i++, to += to_step, from += from_step)
        switch (bytes) { /* constant sizes: a move each, no call */
        case 1:
            *to = *from;
            break;
        case 2:
            memcpy(to, from, 2);
            break;
        case 4:
            memcpy(to, from, 4);
            break;
        }
}

#endif
