/* four_cuda.h - four floats of an array at once, for kernels that pass over arrays.
 *
 * Contract: i is a multiple of 4. Where all arrays of a kernel are aligned to 16 bytes, `aligned`
 * is 1 and whole fours move as one access of 16 bytes; else, and at the array's end, they move one
 * by one, and what lies behind n is read as 0 and not written.
 *
 * Surprising: arrays are not aligned by nature: a slice of a tensor begins at any float. */
#ifndef CNN_FOUR_CUDA_H
#define CNN_FOUR_CUDA_H

#include "launch.h"

struct k_four {
    float v[4];
};

static __host__ __device__ inline int k_four_aligned(const void *a, const void *b = 0,
                                                     const void *c = 0, const void *d = 0) {
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) & 15) == 0;
}

static __device__ inline k_four k_four_load(const float *x, int64_t i, int64_t n, int aligned) {
    k_four f;
    if (aligned && i + 4 <= n) {
        float4 whole = *(const float4 *)(x + i);
        f.v[0] = whole.x, f.v[1] = whole.y, f.v[2] = whole.z, f.v[3] = whole.w;
    } else
        for (int k = 0; k < 4; k++) f.v[k] = i + k < n ? x[i + k] : 0;
    return f;
}

static __device__ inline void k_four_store(float *y, int64_t i, int64_t n, int aligned, k_four f) {
    if (aligned && i + 4 <= n)
        *(float4 *)(y + i) = make_float4(f.v[0], f.v[1], f.v[2], f.v[3]);
    else
        for (int k = 0; k < 4; k++)
            if (i + k < n) y[i + k] = f.v[k];
}

#endif
