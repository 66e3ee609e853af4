/* strided_cuda.h - positions of strided arrays, for kernels of a card: what strided.h is for the
 * CPU's.
 *
 * Contract: a k_places<N> holds dimensions in row-major order and the strides of N arrays over
 * them; it goes to a kernel by value. 1 <= nd.
 *
 * Surprising: a 64-bit division costs a card some hundred instructions, a 32-bit one about twenty,
 * so which of them is used is decided once, by the number of positions; one dimension needs none.
 */
#ifndef CNN_STRIDED_CUDA_H
#define CNN_STRIDED_CUDA_H

#include "four_cuda.h"

/* ----------------------------------------------------------------------------------- positions */

template <int N> struct k_places {
    int nd, narrow; /* narrow: 32 bits count the positions */
    int64_t size[K_MAX_DIMS], stride[N][K_MAX_DIMS];
};

#ifdef __CUDACC__
#define K_ROLLED _Pragma("unroll 1") /* the loop stays one: unrolled it is long and no faster */
#else
#define K_ROLLED
#endif

template <class unsigned_int, int N>
static __device__ inline void k_place_by(const k_places<N> &p, unsigned_int i, int64_t (&at)[N]) {
    K_ROLLED
    for (int d = p.nd - 1; d > 0; d--) {
        unsigned_int size = (unsigned_int)p.size[d], outer = i / size;
        int64_t k = (int64_t)(i - outer * size);
        for (int a = 0; a < N; a++) at[a] += k * p.stride[a][d];
        i = outer;
    }
    for (int a = 0; a < N; a++) at[a] += (int64_t)i * p.stride[a][0];
}

/* Where position i lies in each of the arrays, in elements. */
template <int N>
static __device__ inline void k_place(const k_places<N> &p, int64_t i, int64_t (&at)[N]) {
    for (int a = 0; a < N; a++) at[a] = 0;
    if (p.narrow)
        k_place_by(p, (uint32_t)i, at);
    else
        k_place_by(p, (uint64_t)i, at);
}

/* The first nd of some dimensions; with nd = 0 one position, at 0. Answers how many there are. */
template <int N>
static inline int64_t k_places_make(k_places<N> *p, int nd, const int64_t *size,
                                    const int64_t *const (&stride)[N]) {
    int64_t count = 1;
    *p = k_places<N>();
    p->nd = nd ? nd : 1;
    p->size[0] = 1;
    for (int d = 0; d < nd; d++) {
        count *= p->size[d] = size[d];
        for (int a = 0; a < N; a++) p->stride[a][d] = stride[a][d];
    }
    p->narrow = count <= INT32_MAX;
    return count;
}

/* ------------------------------------------------------------------------------- rows by columns
 * A block of at most 256 threads over rows of `n` items: x runs along a row, y from row to row, and
 * both go on in steps of the whole grid, without a division:
 *     for (int64_t row = k_first_row(); row < rows; row += k_row_stride())
 *         for (int64_t i = k_first(); i < n; i += k_stride()) */
static inline void k_rows_shape(int64_t rows, int64_t n, dim3 *grid, dim3 *block) {
    const int64_t threads = 256, most = 132 * 16; /* as k_blocks */
    int64_t across = (n + threads - 1) / threads, x = (n + across - 1) / across;
    if (x > 32) x = (x + 31) / 32 * 32;
    int64_t y = threads / x < rows ? threads / x : rows, down = (rows + y - 1) / y;
    if (across > most) across = most;
    if (down > most / across) down = most / across;
    *grid = dim3((unsigned)across, (unsigned)down);
    *block = dim3((unsigned)x, (unsigned)y);
}
#define k_first_row()  ((int64_t)blockIdx.y * blockDim.y + threadIdx.y)
#define k_row_stride() ((int64_t)gridDim.y * blockDim.y)

#endif
