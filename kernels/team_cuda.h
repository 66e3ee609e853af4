/* team_cuda.h - two ways to stand threads over a matrix: as teams, one a row, or in columns.
 *
 * A thread owns four neighbouring channels, or eight of bf16, and moves them at once: 16 bytes, or
 * 8 where bf16 goes by four. Else it owns four, of which the first n are there, one by one.
 *
 * Surprising: what is computed is the same, since which rows a thread adds up depends on the shape
 * alone: a channel slice that begins anywhere gives the same bits as a whole matrix. */
#ifndef CNN_TEAM_CUDA_H
#define CNN_TEAM_CUDA_H

#include "four_cuda.h"

/* So many neighbouring channels a thread moves at once, and owns; 1: one by one, and owns four. */
template <int AT_ONCE> struct k_width {
    enum { whole = AT_ONCE > 1, own = AT_ONCE > 4 ? AT_ONCE : 4, threads = 1024 / own };
};

/* As many neighbours as one instruction can move in all rows of p, `ld` elements apart: 8 (not of
 * floats), 4 or 1. c: the channels of what a thread walks. */
template <class T> static inline int k_at_once(const T *p, int64_t ld, int64_t c) {
    for (int n = sizeof(T) < 4 ? 8 : 4; n >= 4; n /= 2)
        if (k_aligned_to(n * (int)sizeof(T), p) && ld % n == 0 && c % n == 0) return n;
    return 1;
}

/* Calls f with the k_width of that number; T: of which elements. */
template <class T, class F> static inline void k_with_width(int at_once, F f) {
    if constexpr (sizeof(T) == 2)
        if (at_once == 8) return f(k_width<8>());
    if (at_once >= 4) return f(k_width<4>());
    f(k_width<1>());
}

/* Are they four or more? */
template <class T> static inline bool k_aligned(const T *p, int64_t ld, int64_t c) {
    return k_at_once(p, ld, c) > 1;
}

/* K_LAUNCH_ALIGNED(is, name, args): K_LAUNCH of name<true> or name<false>. */
#define K_LAUNCH_ALIGNED(is, name, grid, block, ...)                                               \
    do {                                                                                           \
        if (is)                                                                                    \
            K_LAUNCH((name<true>), grid, block, __VA_ARGS__);                                      \
        else                                                                                       \
            K_LAUNCH((name<false>), grid, block, __VA_ARGS__);                                     \
    } while (0)

/* ----------------------------------------------------------------------------------------- columns
 * Blocks of x * y threads: x over the channels, so that a thread keeps its own and what belongs to
 * them; y over the rows, with a stride of all y of the grid. They are counted in threads that own
 * four channels; where they own eight, half of them are as wide (k_column_threads). */

enum { K_COLUMN_THREADS = 256 };

static inline dim3 k_column_block(int64_t c) {
    int64_t quads = (c + 3) / 4;
    unsigned x = 1;
    while (x < 32 && x < quads) x *= 2;
    for (unsigned t = x; t >= 8; t /= 2) /* 8 threads read a line of 128 bytes: still whole ones */
        if ((quads + t - 1) / t * t < (quads + x - 1) / x * x) x = t;
    return dim3(x, K_COLUMN_THREADS / x);
}

template <class W> static inline dim3 k_column_threads(dim3 block, W) {
    return dim3(block.x * 4 / W::own, block.y);
}

/* Blocks side by side. */
static inline int64_t k_column_blocks(dim3 block, int64_t c) {
    return ((c + 3) / 4 + block.x - 1) / block.x;
}

static inline dim3 k_column_grid(dim3 block, int64_t c, int64_t rows) {
    int64_t x = k_column_blocks(block, c), most = 132 * 16 / x, y = (rows + block.y - 1) / block.y;
    if (y > most) y = most;
    return dim3((unsigned)x, (unsigned)(y < 1 ? 1 : y));
}

#define k_channel(own) (((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * (own))

/* ------------------------------------------------------------------------------------------- teams
 * A team of 1, 2, 4 .. 32 threads, or of a whole block, works on a row. Every thread of the block
 * goes through the loop as often, as all of them meet in the sums:
 *     for (int64_t base = k_team_first(width); base < rows; base += k_team_stride(width)) {
 *         row = base + threadIdx.x / width;            may be >= rows
 *         lane = threadIdx.x % width; */

/* Threads for a row of `quads` times four channels. */
static inline int k_team_width(int64_t quads) {
    if (quads > 4096) return 1024;
    if (quads > 256) return 256;
    int width = 1;
    while (width < 32 && width < quads) width *= 2;
    return width;
}

static inline int k_team_block(int width) { return width > 256 ? width : 256; }
static inline unsigned k_team_blocks(int64_t rows, int width) {
    int teams = k_team_block(width) / width;
    return k_blocks((rows + teams - 1) / teams, 1);
}

#define k_team_first(width)  ((int64_t)blockIdx.x * (blockDim.x / (width)))
#define k_team_stride(width) ((int64_t)gridDim.x * (blockDim.x / (width)))

/* What `join` makes of the team's values, in a fixed order, in each of its threads. */
template <class T, class J> static __device__ inline T k_team_joined(T v, int width, J join) {
    for (int step = min(width, 32) / 2; step; step /= 2)
        v = join(v, __shfl_xor_sync(0xffffffffu, v, step));
    if (width <= 32) return v;
    __shared__ T part[32];
    __syncthreads(); /* those of the last one have been read */
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (int i = 1; i < width / 32; i++) v = join(v, part[i]);
    return v;
}

template <class T> static __device__ inline T k_team_sum(T v, int width) {
    return k_team_joined(v, width, [](T a, T b) { return a + b; });
}

/* A NaN may get lost. */
static __device__ inline float k_team_max(float v, int width) {
    return k_team_joined(v, width, [](float a, float b) { return fmaxf(a, b); });
}

#endif
