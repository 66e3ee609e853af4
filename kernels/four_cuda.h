/* four_cuda.h - several elements of an array at once, mostly four floats: 16 bytes are the most
 * that a thread reads or writes with one instruction.
 *
 * Contract: a whole pack exists and lies at a multiple of its size. Where that is not known, of
 * four floats the first n are there: they move one by one, what lies behind them is read as
 * `otherwise` and not written, and the same is computed.
 *
 * Surprising: arrays are not aligned by nature: a slice of a tensor begins at any float. One by one
 * costs hardly more then. The four loads of a warp touch the same lines, and the cache in front of
 * them has the room that memory has not. */
#ifndef CNN_FOUR_CUDA_H
#define CNN_FOUR_CUDA_H

#include "launch.h"

template <class T, int V> struct alignas(V * sizeof(T)) k_pack { T v[V]; };
typedef k_pack<float, 4> k_four;

/* Do all of p (or NULL) lie at multiples of so many bytes? */
template <class... P> static __host__ __device__ inline bool k_aligned_to(int bytes, P... p) {
    return ((uintptr_t)0 | ... | (uintptr_t)p) % bytes == 0;
}

/* ------------------------------------------------------------- four floats, whole or the first n
 */

template <bool WHOLE>
static __device__ inline void k_load4(const float *p, int64_t n, float v[4], float otherwise = 0) {
    if (WHOLE) {
        float4 f = *(const float4 *)p;
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else {
        for (int k = 0; k < 4; k++) v[k] = k < n ? p[k] : otherwise;
    }
}

template <bool WHOLE>
static __device__ inline void k_store4(float *p, int64_t n, const float v[4]) {
    if (WHOLE) {
        *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
    } else {
        for (int k = 0; k < 4; k++)
            if (k < n) p[k] = v[k];
    }
}

/* Elements i .. i + 3 of an array of n floats, which may be aligned to 16 bytes; i % 4 = 0. */
static __device__ inline k_four k_four_load(const float *x, int64_t i, int64_t n, bool aligned) {
    k_four f;
    if (aligned && i + 4 <= n)
        k_load4<true>(x + i, 4, f.v);
    else
        k_load4<false>(x + i, n - i, f.v);
    return f;
}

static __device__ inline void k_four_store(float *y, int64_t i, int64_t n, bool aligned, k_four f) {
    if (aligned && i + 4 <= n)
        k_store4<true>(y + i, 4, f.v);
    else
        k_store4<false>(y + i, n - i, f.v);
}

#endif
