/* four_cuda.h - several elements of an array at once, mostly four floats: 16 bytes are the most
 * that a thread reads or writes with one instruction. Values that lie in memory as bf16 are floats
 * as soon as they are read.
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

/* --------------------------------------------------------------------------------- bf16 in memory
 * The upper half of a float32. A float becomes the nearest, ties to even; a NaN stays a NaN. */
struct k_bf16 {
    uint16_t bits;
};

static __device__ inline float k_wide(float x) { return x; }
static __device__ inline float k_wide(k_bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

static __device__ inline unsigned k_bf16_bits(float x) {
    unsigned bits = __float_as_uint(x);
    return x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* Two neighbours in a word, the first below. */
static __device__ inline unsigned k_bf16_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return k_bf16_bits(low) | k_bf16_bits(high) << 16;
#endif
}

static __device__ inline void k_put(float *p, float x) { *p = x; }
static __device__ inline void k_put(k_bf16 *p, float x) { p->bits = (uint16_t)k_bf16_bits(x); }

/* ----------------------------------------------------------------------------- packs of elements
 */

template <class T, int V> struct alignas(V * sizeof(T)) k_pack { T v[V]; };
typedef k_pack<float, 4> k_four;

/* Do all of p (or NULL) lie at multiples of so many bytes? */
template <class... P> static __host__ __device__ inline bool k_aligned_to(int bytes, P... p) {
    return ((uintptr_t)0 | ... | (uintptr_t)p) % bytes == 0;
}

/* ----------------------------------------------------- four values, whole or the first n of them
 */

static __device__ inline void k_whole4(const float *p, float v[4]) {
    float4 f = *(const float4 *)p;
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}
static __device__ inline void k_whole4(const k_bf16 *p, float v[4]) {
    uint2 two = *(const uint2 *)p;
    v[0] = __uint_as_float(two.x << 16), v[1] = __uint_as_float(two.x & 0xffff0000);
    v[2] = __uint_as_float(two.y << 16), v[3] = __uint_as_float(two.y & 0xffff0000);
}

static __device__ inline void k_put_whole4(float *p, const float v[4]) {
    *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
}
static __device__ inline void k_put_whole4(k_bf16 *p, const float v[4]) {
    *(uint2 *)p = make_uint2(k_bf16_pair(v[0], v[1]), k_bf16_pair(v[2], v[3]));
}

template <bool WHOLE, class T>
static __device__ inline void k_load4(const T *p, int64_t n, float v[4], float otherwise = 0) {
    if (WHOLE)
        k_whole4(p, v);
    else
        for (int k = 0; k < 4; k++) v[k] = k < n ? k_wide(p[k]) : otherwise;
}

template <bool WHOLE, class T>
static __device__ inline void k_store4(T *p, int64_t n, const float v[4]) {
    if (WHOLE)
        k_put_whole4(p, v);
    else
        for (int k = 0; k < 4; k++)
            if (k < n) k_put(p + k, v[k]);
}

/* Elements i .. i + 3 of an array of n, which may be aligned to four of them; i % 4 = 0. */
template <class T>
static __device__ inline k_four k_four_load(const T *x, int64_t i, int64_t n, bool aligned) {
    k_four f;
    if (aligned && i + 4 <= n)
        k_load4<true>(x + i, 4, f.v);
    else
        k_load4<false>(x + i, n - i, f.v);
    return f;
}

template <class T>
static __device__ inline void k_four_store(T *y, int64_t i, int64_t n, bool aligned, k_four f) {
    if (aligned && i + 4 <= n)
        k_store4<true>(y + i, 4, f.v);
    else
        k_store4<false>(y + i, n - i, f.v);
}

#endif
