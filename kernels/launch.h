/* launch.h - how a kernel of ours is written and launched, for a card and for the host.
 *
 * A *_cuda.cu file includes this header and nothing of CUDA's. nvcc compiles it for cards; a C++
 * compiler compiles it for the host (launch_host.h), where a block's threads take turns on one CPU,
 * so that every kernel is run, checked against generic and watched by AddressSanitizer without a
 * card.
 *
 * What a kernel may use: threadIdx, blockIdx, blockDim, gridDim; __shared__ arrays of a constant
 * size; __syncthreads, __shfl_xor_sync (whole warps), atomicCAS; float4, uint4; math.h, __umulhi
 * and, where nothing may be fused, __fmul_rn, __fadd_rn, __dmul_rn, __dadd_rn. (What else of CUDA a
 * kernel needs is written into launch_host.h first.)
 * A block has at most 1024 threads; gridDim.y and z stay below 65536.
 *
 * A launcher is one K_LAUNCH: arguments are taken by value when it is called, everything runs in
 * order on one stream. A kernel template with commas goes in parentheses:
 *     K_LAUNCH((scale_kernel<float, 4>), grid, 256, n, x, y);
 * No launch may have an empty grid: return before it when there is nothing to do.
 *
 * Surprising: nothing here returns an error. The device checks after each op (device_cuda.cu). */
#ifndef CNN_LAUNCH_H
#define CNN_LAUNCH_H

#include "card.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define K_LAUNCH(kernel, grid, block, ...)                                                         \
    do {                                                                                           \
        auto k_launched = kernel;                                                                  \
        k_launched<<<grid, block, 0, (cudaStream_t)k_stream()>>>(__VA_ARGS__);                     \
    } while (0)
#else
#include "launch_host.h"
#endif

/* Blocks of `threads` threads for n items, at most so many that a grid-stride loop
 *     for (int64_t i = k_first(); i < n; i += k_stride())
 * keeps every multiprocessor busy a few times over; at least 1. */
static inline unsigned k_blocks(int64_t n, int threads) {
    int64_t most = 132 * 16, blocks = (n + threads - 1) / threads;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}
#define k_first()  ((int64_t)blockIdx.x * blockDim.x + threadIdx.x)
#define k_stride() ((int64_t)gridDim.x * blockDim.x)

#endif
