/* four_cuda.h - several elements of an array at once: 16 bytes, that is four floats or eight of
 * bf16, are the most that a thread reads or writes with one instruction. Values that lie in memory
 * as bf16 are floats as soon as they are read.
 *
 * Contract: a whole pack exists and lies at a multiple of its size. Where that is not known, of V
 * values the first n are there: they move one by one, what lies behind them is read as `otherwise`
 * and not written, and the same is computed.
 *
 * Surprising: arrays are not aligned by nature: a slice of a tensor begins at any float. One by one
 * costs hardly more then. The loads of a warp touch the same lines, and the cache in front of
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

/* Two neighbours in a word, the first below; the pointer says of which type. */
static __device__ inline unsigned k_pair(const k_bf16 *, float low, float high) {
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

template <class T, int V> struct alignas(V * sizeof(T) < 16 ? V * sizeof(T) : 16) k_pack {
    T v[V];
};
typedef k_pack<float, 4> k_four;

/* Do all of p (or NULL) lie at multiples of so many bytes? */
template <class... P> static __host__ __device__ inline bool k_aligned_to(int bytes, P... p) {
    return ((uintptr_t)0 | ... | (uintptr_t)p) % bytes == 0;
}

/* V neighbours, read or written as one pack: of 32 bits, or of the upper half of that. */
template <int V> static __device__ inline void k_take(const float *p, float (&v)[V]) {
    k_pack<float, V> all = *(const k_pack<float, V> *)p;
    for (int k = 0; k < V; k++) v[k] = all.v[k];
}
template <class T, int V> static __device__ inline void k_take(const T *p, float (&v)[V]) {
    static_assert(sizeof(T) == 2, "two to a word");
    k_pack<unsigned, V / 2> two = *(const k_pack<unsigned, V / 2> *)p;
    for (int k = 0; k < V; k++)
        v[k] = __uint_as_float(k % 2 ? two.v[k / 2] & 0xffff0000 : two.v[k / 2] << 16);
}

template <int V> static __device__ inline void k_give(float *p, const float (&v)[V]) {
    k_pack<float, V> all;
    for (int k = 0; k < V; k++) all.v[k] = v[k];
    *(k_pack<float, V> *)p = all;
}
template <class T, int V> static __device__ inline void k_give(T *p, const float (&v)[V]) {
    k_pack<unsigned, V / 2> two;
    for (int k = 0; k < V; k += 2) two.v[k / 2] = k_pair(p, v[k], v[k + 1]);
    *(k_pack<unsigned, V / 2> *)p = two;
}

/* ------------------------------------------------------- V values, whole or the first n of them */

template <bool WHOLE, class T, int V>
static __device__ inline void k_load(const T *p, int64_t n, float (&v)[V], float otherwise = 0) {
    if constexpr (WHOLE)
        k_take(p, v);
    else
        for (int k = 0; k < V; k++) v[k] = k < n ? k_wide(p[k]) : otherwise;
}

template <bool WHOLE, class T, int V>
static __device__ inline void k_store(T *p, int64_t n, const float (&v)[V]) {
    if constexpr (WHOLE)
        k_give(p, v);
    else
        for (int k = 0; k < V; k++)
            if (k < n) k_put(p + k, v[k]);
}

/* Elements i .. i + 3 of an array of n, which may be aligned to four of them; i % 4 = 0. */
template <class T>
static __device__ inline k_four k_four_load(const T *x, int64_t i, int64_t n, bool aligned) {
    k_four f;
    if (aligned && i + 4 <= n)
        k_load<true>(x + i, 4, f.v);
    else
        k_load<false>(x + i, n - i, f.v);
    return f;
}

template <class T>
static __device__ inline void k_four_store(T *y, int64_t i, int64_t n, bool aligned, k_four f) {
    if (aligned && i + 4 <= n)
        k_store<true>(y + i, 4, f.v);
    else
        k_store<false>(y + i, n - i, f.v);
}

#endif
