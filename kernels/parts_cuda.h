/* parts_cuda.h - many arrays in one launch: the parameters of a net, of which a bias of 64 numbers
 * costs a block and not a launch.
 *
 * Contract: a k_parts<P, MOST> names up to MOST arrays and goes to a kernel by value, among the
 * 4096 bytes that a launch's arguments may have. P has a count n. A block takes K_CHUNK elements of
 * one of them:
 *     const k_piece<P> q = k_piece_of(parts);
 *     for (int64_t i = q.begin + threadIdx.x; i < q.end; i += blockDim.x)  ... of q.part
 *
 * Surprising: a block finds its array by bisection, in seven steps of 128 arrays. */
#ifndef CNN_PARTS_CUDA_H
#define CNN_PARTS_CUDA_H

#include "four_cuda.h"

enum { K_CHUNK = 4096 };

template <class P, int MOST> struct k_parts {
    int count;
    unsigned end[MOST]; /* the first block behind part i's */
    P part[MOST];
};

template <class P> struct k_piece {
    P part;
    int64_t begin, end;
};

template <class P, int MOST>
static __device__ inline k_piece<P> k_piece_of(const k_parts<P, MOST> &b) {
    int low = 0, high = b.count - 1;
    while (low < high) {
        int middle = (low + high) / 2;
        if (blockIdx.x < b.end[middle])
            high = middle;
        else
            low = middle + 1;
    }
    int64_t begin = (int64_t)(blockIdx.x - (low ? b.end[low - 1] : 0)) * K_CHUNK;
    return {b.part[low], begin, min(begin + K_CHUNK, b.part[low].n)};
}

/* launch(parts, blocks), for as many at a time as fit. */
template <int MOST, class P, class F>
static inline void k_for_parts(int64_t parts, const P *part, F launch) {
    k_parts<P, MOST> b = {};
    unsigned blocks = 0;
    for (int64_t i = 0; i < parts; i++) {
        if (part[i].n > 0) {
            blocks += (unsigned)((part[i].n + K_CHUNK - 1) / K_CHUNK);
            b.end[b.count] = blocks;
            b.part[b.count++] = part[i];
        }
        if (!b.count || (b.count < MOST && i + 1 < parts)) continue;
        launch(b, blocks);
        b.count = 0;
        blocks = 0;
    }
}

#endif
