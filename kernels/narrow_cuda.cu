/* narrow_cuda.cu - float32 rows to dense bf16 rows and back, around cuDNN's bf16 convolutions.
 *
 * Contract: card.h. Rounds to the nearest, ties to even, and a NaN stays a NaN, as from_f32 does.
 * Both wait for memory: 6 bytes an element. A thread moves eight neighbours of a row, 16 bytes on
 * the bf16 side, where rows begin at multiples of that; else one by one.
 *
 * Surprising: the way back adds the bias, so a bf16 convolution gets it in float32 and for
 * nothing. */
#include "launch.h"

enum { THREADS = 256, EIGHT = 8 };

namespace {

__device__ inline unsigned rounded(float x) {
    unsigned bits = __float_as_uint(x);
    return x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

__device__ inline float widened(unsigned bits) { return __uint_as_float(bits << 16); }

/* Row and first column of item i, of which a row has `eights`. */
struct spot {
    int64_t row, column, left; /* left: elements until the row's end */
    __device__ spot(int64_t i, int64_t eights, int64_t c)
        : row(i / eights), column(i % eights * EIGHT), left(c - column) {}
};

__global__ void narrow_kernel(int64_t rows, int64_t c, int64_t eights, int64_t ld, int aligned,
                              const float *x, uint16_t *y) {
    for (int64_t i = k_first(); i < rows * eights; i += k_stride()) {
        spot s(i, eights, c);
        const float *from = x + s.row * ld + s.column;
        uint16_t *to = y + s.row * c + s.column;
        if (aligned && s.left >= EIGHT) {
            float4 a = *(const float4 *)from, b = *(const float4 *)(from + 4);
            *(uint4 *)to =
                make_uint4(rounded(a.x) | rounded(a.y) << 16, rounded(a.z) | rounded(a.w) << 16,
                           rounded(b.x) | rounded(b.y) << 16, rounded(b.z) | rounded(b.w) << 16);
        } else
            for (int k = 0; k < EIGHT && k < s.left; k++) to[k] = (uint16_t)rounded(from[k]);
    }
}

__device__ inline float finished(float v, const float *bias, int64_t column, int relu) {
    if (bias) v += bias[column];
    return relu && v < 0 ? 0 : v; /* NaN stays */
}

__global__ void widen_kernel(int64_t rows, int64_t c, int64_t eights, int64_t ld, int aligned,
                             int relu, const uint16_t *x, const float *bias, float *y) {
    for (int64_t i = k_first(); i < rows * eights; i += k_stride()) {
        spot s(i, eights, c);
        const uint16_t *from = x + s.row * c + s.column;
        float *to = y + s.row * ld + s.column;
        if (aligned && s.left >= EIGHT) {
            uint4 packed = *(const uint4 *)from;
            unsigned two[4] = {packed.x, packed.y, packed.z, packed.w};
            float v[EIGHT];
            for (int k = 0; k < EIGHT; k++)
                v[k] = finished(widened(k % 2 ? two[k / 2] >> 16 : two[k / 2] & 0xffff), bias,
                                s.column + k, relu);
            *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
            *(float4 *)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
        } else
            for (int k = 0; k < EIGHT && k < s.left; k++)
                to[k] = finished(widened(from[k]), bias, s.column + k, relu);
    }
}

/* Every row of the float32 side and of the bf16 side begins at a multiple of 16 bytes. */
int all_aligned(int64_t rows, int64_t c, int64_t ld, const void *wide, const void *narrow) {
    uintptr_t both = (uintptr_t)wide | (uintptr_t)narrow;
    return both % 16 == 0 && (rows == 1 || (c % EIGHT == 0 && ld % 4 == 0));
}

} // namespace

extern "C" void k_narrow_rows(int64_t rows, int64_t c, int64_t ld, const float *x, void *y) {
    if (!rows || !c) return;
    if (ld == c) c = ld = rows * c, rows = 1;
    int64_t eights = (c + EIGHT - 1) / EIGHT;
    K_LAUNCH(narrow_kernel, k_blocks(rows * eights, THREADS), THREADS, rows, c, eights, ld,
             all_aligned(rows, c, ld, x, y), x, (uint16_t *)y);
}

extern "C" void k_widen_rows(int64_t rows, int64_t c, const void *x, const float *bias, int relu,
                             int64_t ld, float *y) {
    if (!rows || !c) return;
    if (ld == c && !bias) c = ld = rows * c, rows = 1;
    int64_t eights = (c + EIGHT - 1) / EIGHT;
    K_LAUNCH(widen_kernel, k_blocks(rows * eights, THREADS), THREADS, rows, c, eights, ld,
             all_aligned(rows, c, ld, y, x), relu, (const uint16_t *)x, bias, y);
}
