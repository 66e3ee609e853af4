/* storage_generic.c - rows picked by index, and conversion between the stored types and float.
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

void k_storage_generic(k_table *t) {
    t->index_select = index_select;
    t->index_add = index_add;
    t->to_f32 = to_f32;
    t->from_f32 = from_f32;
}
