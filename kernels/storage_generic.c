/* storage_generic.c - rows picked by index, conversion between the stored types and float, and
 * what is written or moved without looking at the bits.
 *
 * Contract: kernels.h. index counts from 0 and lies in range. index_add clears dx itself and adds
 * the picks in their order, so that repeated indices give the same bits every time.
 *
 * Surprising: to integers it goes toward zero (PyTorch's cast), saturates, and NaN becomes 0;
 * to bf16 it goes to the nearest, ties to even, and a NaN stays a NaN. */
#include "kernels.h"
#include "strided.h"

#include <math.h>
#include <string.h>

enum { GRAIN = 1 << 14 }; /* elements a thread takes at once */

typedef struct {
    int64_t outer, rows, picks, inner;
    const float *x;
    const int32_t *index;
    float *y;
} selection;

/* Output rows [begin, end) of the outer * picks ones. */
static void select_rows(void *ctx, int64_t begin, int64_t end) {
    const selection *s = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t from = i / s->picks * s->rows + s->index[i % s->picks];
        memcpy(s->y + i * s->inner, s->x + from * s->inner, s->inner * sizeof *s->y);
    }
}

/* Columns [begin, end) of the outer * inner ones: no two threads share a column. */
static void add_columns(void *ctx, int64_t begin, int64_t end) {
    const selection *s = ctx;
    for (int64_t i = begin, n; i < end; i += n) {
        int64_t block = i / s->inner, column = i % s->inner;
        n = k_min(s->inner - column, end - i);
        float *y = s->y + block * s->rows * s->inner + column;
        const float *x = s->x + block * s->picks * s->inner + column;
        for (int64_t r = 0; r < s->rows; r++) memset(y + r * s->inner, 0, n * sizeof *y);
        for (int64_t p = 0; p < s->picks; p++)
            for (int64_t k = 0; k < n; k++) y[s->index[p] * s->inner + k] += x[p * s->inner + k];
    }
}

static void index_select(int64_t outer, int64_t rows, int64_t picks, int64_t inner, const float *x,
                         const int32_t *index, float *y) {
    selection s = {outer, rows, picks, inner, x, index, y};
    if (inner) k_parallel(outer * picks, k_max(1, GRAIN / inner), select_rows, &s);
}

static void index_add(int64_t outer, int64_t rows, int64_t picks, int64_t inner, const float *dy,
                      const int32_t *index, float *dx) {
    selection s = {outer, rows, picks, inner, dy, index, dx};
    k_parallel(outer * inner, k_max(16, GRAIN / k_max(picks, 1)), add_columns, &s);
}

/* ----------------------------------------------------------------------------------- conversion */

static float bf16_to_f32(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static uint16_t f32_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return bits >> 16 | 0x40; /* quiet: the payload may have been in the low half */
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static uint8_t f32_to_u8(float x) { return x >= 255 ? 255 : x > 0 ? (uint8_t)x : 0; }

static int32_t f32_to_i32(float x) {
    if (isnan(x)) return 0;
    return x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : (int32_t)x;
}

typedef struct {
    k_dtype dtype;
    const void *x;
    void *y;
} conversion;

#define CONVERT(from, to, function)                                                                \
    for (int64_t i = begin; i < end; i++) ((to *)j->y)[i] = function(((const from *)j->x)[i])

static void to_f32_range(void *ctx, int64_t begin, int64_t end) {
    const conversion *j = ctx;
    switch (j->dtype) {
    case K_F32:
        CONVERT(float, float, );
        break;
    case K_BF16:
        CONVERT(uint16_t, float, bf16_to_f32);
        break;
    case K_U8:
        CONVERT(uint8_t, float, );
        break;
    case K_I32:
        CONVERT(int32_t, float, );
        break;
    }
}

static void from_f32_range(void *ctx, int64_t begin, int64_t end) {
    const conversion *j = ctx;
    switch (j->dtype) {
    case K_F32:
        CONVERT(float, float, );
        break;
    case K_BF16:
        CONVERT(float, uint16_t, f32_to_bf16);
        break;
    case K_U8:
        CONVERT(float, uint8_t, f32_to_u8);
        break;
    case K_I32:
        CONVERT(float, int32_t, f32_to_i32);
        break;
    }
}

static void to_f32(int64_t n, k_dtype dtype, const void *x, float *y) {
    conversion j = {dtype, x, y};
    k_parallel(n, GRAIN, to_f32_range, &j);
}

static void from_f32(int64_t n, k_dtype dtype, const float *x, void *y) {
    conversion j = {dtype, x, y};
    k_parallel(n, GRAIN, from_f32_range, &j);
}

/* ---------------------------------------------------------------------- values that are written */

typedef struct {
    int bytes;
    const void *one;
    void *y;
} filling;

#define FILL(type)                                                                                 \
    for (int64_t i = begin; i < end; i++) ((type *)j->y)[i] = *(const type *)j->one

static void fill_range(void *ctx, int64_t begin, int64_t end) {
    const filling *j = ctx;
    switch (j->bytes) {
    case 1:
        FILL(uint8_t);
        break;
    case 2:
        FILL(uint16_t);
        break;
    case 4:
        FILL(uint32_t);
        break;
    }
}

static void fill(int64_t n, int bytes, const void *one, void *y) {
    filling j = {bytes, one, y};
    k_parallel(n, GRAIN, fill_range, &j);
}

typedef struct {
    double first, step;
    float *y;
} numbers;

static void range_range(void *ctx, int64_t begin, int64_t end) {
    const numbers *j = ctx;
    for (int64_t i = begin; i < end; i++) j->y[i] = (float)(j->first + (double)i * j->step);
}

static void range(int64_t n, double first, double step, float *y) {
    numbers j = {first, step, y};
    k_parallel(n, GRAIN, range_range, &j);
}

/* --------------------------------------------------------------- elements from layout to layout */

typedef struct {
    const k_loop *l;
    int bytes;
    const void *a;
    void *y;
} moving;

#define MOVE(type)                                                                                 \
    do {                                                                                           \
        const type *a = (const type *)j->a + from;                                                 \
        type *y = (type *)j->y + to;                                                               \
        for (int64_t k = 0; k < n; k++) y[k * sy] = a[k * sa];                                     \
    } while (0)

static void elements_range(void *ctx, int64_t begin, int64_t end) {
    const moving *j = ctx;
    const k_loop *l = j->l;
    int last = l->nd - 1;
    int64_t inner = l->size[last], sy = l->sy[last], sa = l->sa[last];
    for (int64_t i = begin, n; i < end; i += n) {
        int64_t row = i / inner, column = i % inner;
        int64_t to = k_offset(last, l->size, l->sy, row) + column * sy;
        int64_t from = k_offset(last, l->size, l->sa, row) + column * sa;
        n = k_min(inner - column, end - i);
        if (j->bytes == 1)
            MOVE(uint8_t);
        else
            MOVE(uint16_t);
    }
}

static void elements(const k_loop *l, int bytes, const void *a, void *y) {
    moving j = {l, bytes, a, y};
    k_parallel(k_count(l->nd, l->size), GRAIN, elements_range, &j);
}

/* ------------------------------------------------------------------------------------ positions */

/* i32 is read as it is: a float does not hold all of it. */
static double number_at(k_dtype dtype, const void *x, int64_t i) {
    switch (dtype) {
    case K_F32:
        break;
    case K_BF16:
        return bf16_to_f32(((const uint16_t *)x)[i]);
    case K_U8:
        return ((const uint8_t *)x)[i];
    case K_I32:
        return ((const int32_t *)x)[i];
    }
    return ((const float *)x)[i];
}

static void positions(int64_t n, k_dtype dtype, const void *x, int64_t limit, int op, int32_t *y,
                      k_trouble *bad) {
    for (int64_t i = 0; i < n; i++) {
        double v = number_at(dtype, x, i);
        int good = v == floor(v) && v >= 1 && v <= (double)limit; /* a NaN is not */
        y[i] = good ? (int32_t)(v - 1) : 0;
        if (!good && !bad->found) *bad = (k_trouble){1, op, i, v};
    }
}

void k_storage_generic(k_table *t) {
    t->index_select = index_select;
    t->index_add = index_add;
    t->to_f32 = to_f32;
    t->from_f32 = from_f32;
    t->fill = fill;
    t->range = range;
    t->elements = elements;
    t->positions = positions;
}
