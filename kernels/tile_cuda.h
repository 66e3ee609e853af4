/* tile_cuda.h - the one product of matrices under gemm_cuda.cu and conv_cuda.cu, with operands that
 * are read where they lie.
 *
 * C[rows x columns] = A[rows x depth] B[depth x columns] (+ bias). A block of 64 threads makes one
 * tile of C. Step by step it copies 16 deep pieces of A and B to shared memory, the next one on its
 * way while the last one is multiplied: one barrier a step. An element of an operand is named by
 * two spots, one of its row (of B: its column) and one of its depth: it lies at the sum of the two
 * offsets, and is 0 where the sum of the two pixels lies outside the picture. That is a convolution
 * without its im2col matrix, and a plain matrix is a picture of one pixel. A file brings only a
 * struct that names spots (see product_kernel).
 *
 *   tile     outputs a thread   FMAs for a float read from shared memory
 *   64 x 64       8 x 8         4
 *   128 x 16      8 x 4         2.7    few output channels
 *   32 x 32       4 x 4         2      small matrices: weights
 *
 * The tile is the one that multiplies the fewest zeros, weighed by what it costs. Where the tiles
 * are too few for the multiprocessors, the depth falls into parts, whose sums go to scratch memory
 * and are added in order by a second kernel: no atomics, the shapes alone decide, the same bits in
 * every run.
 *
 * What limits it: FP32 FMAs, an eighth of the rate of TF32 tensor cores and a sixteenth of BF16's.
 * Of an H100's 67 TFLOP/s expect 60 % to 75 % with large aligned shapes (64 FMAs for 4 shared loads
 * a thread, 16 bytes from the second cache a clock and multiprocessor), half of that where channels
 * are not a multiple of 4 and floats are read one by one. cuBLAS and cuDNN overlay these kernels
 * since they use the tensor cores; these stay the oracle on the card, and what runs without them.
 *
 * Surprising: bf16 precision is only a rounding of what is read. Products and sums are fp32. */
#ifndef CNN_TILE_CUDA_H
#define CNN_TILE_CUDA_H

#include "launch.h"

#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#define STEPS    _Pragma("unroll 8")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#define STEPS    UNROLLED
#endif

namespace {

enum {
    THREADS = 64,
    DEPTH = 16,  /* of a step */
    PAD = 4,     /* floats between the lines in shared memory, for the banks */
    BLOCKS = 528 /* wanted: 4 a multiprocessor */
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Four floats; the host multiplies them at once too. */
#ifdef __CUDACC__
typedef float4 four;
__device__ inline four operator*(float a, four b) {
    return make_float4(a * b.x, a * b.y, a * b.z, a * b.w);
}
__device__ inline void operator+=(four &a, four b) {
    a.x += b.x, a.y += b.y, a.z += b.z, a.w += b.w;
}
#else
typedef float four __attribute__((vector_size(16)));
#endif

/* -------------------------------------------------------------------------------------- operands */

struct spot {
    int64_t at, y, x;
};

__device__ inline spot nowhere() { return {0, INT64_MIN / 2, 0}; }

/* `fours`: floats come by fours, 16-byte aligned, that lie in one pixel: all there or none. */
struct operand {
    const float *p;
    int64_t h, w;
    int fours;
};

__device__ inline bool inside(const operand &o, const spot &a, const spot &b) {
    return (uint64_t)(a.y + b.y) < (uint64_t)o.h && (uint64_t)(a.x + b.x) < (uint64_t)o.w;
}

__device__ inline float element(const operand &o, const spot &a, const spot &b) {
    return inside(o, a, b) ? o.p[a.at + b.at] : 0.0f;
}

/* To the next bf16, ties to even; NaN stays NaN. */
__device__ inline float bf16(float v) {
    unsigned bits = __float_as_uint(v);
    bits = v != v ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    return __uint_as_float(bits & 0xffff0000);
}

/* A piece of an operand on its way: N lines (rows of A, columns of B) by DEPTH, four neighbours at
 * a time, which lie along the depth (DEEP) or along the lines. */
template <int N, bool DEEP> struct piece {
    float4 v[N * DEPTH / 4 / THREADS];

    static __device__ int line(int i) {
        int unit = (int)threadIdx.x + i * THREADS;
        return DEEP ? unit / (DEPTH / 4) : unit % (N / 4) * 4;
    }
    static __device__ int depth(int i) {
        int unit = (int)threadIdx.x + i * THREADS;
        return DEEP ? unit % (DEPTH / 4) * 4 : unit / (N / 4);
    }

    __device__ void fetch(const operand &o, const spot *lines, const spot *depths) {
        UNROLLED for (int i = 0; i < N * DEPTH / 4 / THREADS; i++) {
            const spot *a = lines + line(i), *b = depths + depth(i);
            if (o.fours)
                v[i] = inside(o, *a, *b) ? *(const float4 *)(o.p + a->at + b->at)
                                         : make_float4(0, 0, 0, 0);
            else
                v[i] = make_float4(element(o, *a, *b), element(o, a[!DEEP], b[DEEP]),
                                   element(o, a[2 * !DEEP], b[2 * DEEP]),
                                   element(o, a[3 * !DEEP], b[3 * DEEP]));
        }
    }

    __device__ void round() {
        UNROLLED for (int i = 0; i < N * DEPTH / 4 / THREADS; i++)
            v[i] = make_float4(bf16(v[i].x), bf16(v[i].y), bf16(v[i].z), bf16(v[i].w));
    }

    __device__ void place(float (*to)[N + PAD]) const {
        UNROLLED for (int i = 0; i < N * DEPTH / 4 / THREADS; i++) {
            int n = line(i), k = depth(i);
            if (DEEP) {
                to[k][n] = v[i].x;
                to[k + 1][n] = v[i].y;
                to[k + 2][n] = v[i].z;
                to[k + 3][n] = v[i].w;
            } else
                *(float4 *)&to[k][n] = v[i];
        }
    }
};

/* ------------------------------------------------------------------------------------- the product
 * of a shape S, which has
 *   A_DEEP, B_DEEP                whether four neighbours of A (B) lie along the depth
 *   enter(piece)                  fills in the rest for one of the products that the shape falls
 *                                 into (groups, phases), and the fields
 *   rows, columns, depth          of it
 *   first                         its first column in C and in bias
 *   a_row(i) a_depth(k) b_column(j) b_depth(k)    spots
 *   c_row(i)                      row i's row in C */
template <class S> struct product {
    S shape;
    operand a, b;
    const float *bias; /* or NULL */
    float *c;          /* the result, or parts sums of it in scratch memory, dense */
    int64_t ldc, part; /* floats from a part to the next */
    int64_t row_tiles, column_tiles, pieces, parts, chunk; /* chunk: the depth of a part */
    int fours, rounds;                                     /* of c; to bf16 */
};

/* Row i of the R rows of a thread (column i of its columns): fours of neighbours, apart, so that the
 * threads of a warp read neighbouring fours. */
template <int N, int R> __device__ inline int own(int thread, int i) {
    return i / 4 * (N / (R / 4)) + thread * 4 + i % 4;
}

template <int ROWS, int COLUMNS, int R, int C> struct tile {
    four sum[R][C / 4];

    static __device__ int row() { return threadIdx.x / (COLUMNS / C); }
    static __device__ int column() { return threadIdx.x % (COLUMNS / C); }
    static __device__ int first_row() { return own<ROWS, R>(row(), 0); }
    static __device__ int first_column() { return own<COLUMNS, C>(column(), 0); }

    __device__ void clear() {
        UNROLLED for (int i = 0; i < R; i++)
            UNROLLED for (int j = 0; j < C / 4; j++) sum[i][j] = four{0, 0, 0, 0};
    }

    __device__ void multiply(const float (*a)[ROWS + PAD], const float (*b)[COLUMNS + PAD]) {
        STEPS for (int k = 0; k < DEPTH; k++) {
            const float *u = &a[k][first_row()], *v = &b[k][first_column()];
            four vj[C / 4];
            UNROLLED for (int j = 0; j < C / 4; j++) vj[j] = *(const four *)(v + own<COLUMNS, C>(0, 4 * j));
            UNROLLED for (int i = 0; i < R; i += 4) {
                float4 ui = *(const float4 *)(u + own<ROWS, R>(0, i));
                UNROLLED for (int j = 0; j < C / 4; j++) {
                    sum[i][j] += ui.x * vj[j];
                    sum[i + 1][j] += ui.y * vj[j];
                    sum[i + 2][j] += ui.z * vj[j];
                    sum[i + 3][j] += ui.w * vj[j];
                }
            }
        }
    }

    /* c, bias: of the tile's first column, of which `columns` are there; c_row[i] < 0: no row. */
    __device__ void write(float *c, const int64_t *c_row, const float *bias, int64_t columns,
                          bool fours) {
        UNROLLED for (int j = 0; j < C; j += 4) {
            int64_t first = own<COLUMNS, C>(column(), j);
            UNROLLED for (int i = 0; i < R; i++) {
                int64_t at = c_row[own<ROWS, R>(row(), i)];
                if (at < 0) continue;
                alignas(16) float v[4];
                *(four *)v = sum[i][j / 4];
                if (bias)
                    UNROLLED for (int n = 0; n < 4; n++)
                        if (first + n < columns) v[n] += bias[first + n];
                if (fours && first < columns)
                    *(float4 *)(c + at + first) = make_float4(v[0], v[1], v[2], v[3]);
                else
                    UNROLLED for (int n = 0; n < 4; n++)
                        if (first + n < columns) c[at + first + n] = v[n];
            }
        }
    }
};

template <class S, int ROWS, int COLUMNS, int R, int C>
__global__ void __launch_bounds__(THREADS) product_kernel(const product<S> p) {
    __shared__ float a[2][DEPTH][ROWS + PAD], b[2][DEPTH][COLUMNS + PAD];
    __shared__ spot a_row[ROWS], b_column[COLUMNS], a_depth[2][DEPTH], b_depth[2][DEPTH];
    __shared__ int64_t c_row[ROWS];

    S shape = p.shape;
    int64_t block = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    int64_t column = block % p.column_tiles * COLUMNS;
    block /= p.column_tiles;
    int64_t row = block % p.row_tiles * ROWS;
    block /= p.row_tiles;
    shape.enter(block % p.pieces);
    int64_t part = block / p.pieces;
    if (part >= p.parts || row >= shape.rows) return; /* pieces differ in their rows */
    int64_t begin = part * p.chunk, end = min(begin + p.chunk, shape.depth);

    int me = threadIdx.x;
    for (int i = me; i < ROWS; i += THREADS) {
        bool there = row + i < shape.rows;
        a_row[i] = there ? shape.a_row(row + i) : nowhere();
        c_row[i] = there ? shape.c_row(row + i) * p.ldc : -1;
    }
    for (int i = me; i < COLUMNS; i += THREADS)
        b_column[i] = column + i < shape.columns ? shape.b_column(column + i) : nowhere();
    auto locate = [&](int64_t k, int slot) { /* a warp for each operand */
        if (me < DEPTH) a_depth[slot][me] = k + me < end ? shape.a_depth(k + me) : nowhere();
        int you = me - THREADS / 2;
        if (you >= 0 && you < DEPTH)
            b_depth[slot][you] = k + you < end ? shape.b_depth(k + you) : nowhere();
    };
    locate(begin, 0);
    locate(begin + DEPTH, 1);
    __syncthreads();

    piece<ROWS, S::A_DEEP> pa;
    piece<COLUMNS, S::B_DEEP> pb;
    auto fetch = [&](int slot) {
        pa.fetch(p.a, a_row, a_depth[slot]);
        pb.fetch(p.b, b_column, b_depth[slot]);
    };
    auto place = [&](int slot) {
        if (p.rounds) pa.round(), pb.round();
        pa.place(a[slot]);
        pb.place(b[slot]);
    };
    fetch(0);
    place(0);
    __syncthreads();
    tile<ROWS, COLUMNS, R, C> t;
    t.clear();
    bool busy = row + t.first_row() < shape.rows && column + t.first_column() < shape.columns;
    int slot = 0;
    for (int64_t k = begin; k < end; k += DEPTH, slot ^= 1) {
        bool more = k + DEPTH < end;
        if (more) fetch(slot ^ 1);
        if (busy) t.multiply(a[slot], b[slot]);
        if (more) {
            place(slot ^ 1);
            locate(k + 2 * DEPTH, slot);
        }
        __syncthreads();
    }
    t.write(p.c + part * p.part + shape.first + column, c_row,
            p.bias ? p.bias + shape.first + column : nullptr, shape.columns - column, p.fours);
}

/* c = bias + the sum of the parts, in their order. 4 bytes are read for each part, 4 written. */
__global__ void sum_kernel(int64_t rows, int64_t columns, int64_t parts, const float *part,
                           const float *bias, float *c, int64_t ldc) {
    int64_t n = rows * columns;
    for (int64_t i = k_first(); i < n; i += k_stride()) {
        float sum = 0;
        STEPS for (int64_t p = 0; p < parts; p++) sum += part[p * n + i];
        if (bias) sum += bias[i % columns];
        c[i / columns * ldc + i % columns] = sum;
    }
}

/* ------------------------------------------------------------------------------------- the launch */

/* How a product is cut. rows, columns, depth: the most that one of its pieces has. */
struct cut {
    int rows, columns; /* of a tile */
    int64_t row_tiles, column_tiles, pieces, parts, chunk;
};

inline cut cut_of(int64_t rows, int64_t columns, int64_t depth, int64_t pieces) {
    static const struct {
        int rows, columns;
        double cost; /* of a product, in those of the first */
    } kind[] = {{64, 64, 1}, {128, 16, 1.25}, {32, 32, 1.5}};
    cut t = {};
    double least = INFINITY;
    for (auto &k : kind) {
        int64_t down = ceil_div(rows, k.rows), across = ceil_div(columns, k.columns);
        double cost = (double)down * k.rows * (double)across * k.columns * k.cost;
        if (cost >= least) continue;
        least = cost;
        t = {k.rows, k.columns, down, across, pieces, 1, depth};
    }
    /* A part is at least 8 steps; with more than 128 of them adding them up takes longer. */
    int64_t tiles = t.row_tiles * t.column_tiles * pieces;
    int64_t parts = min(min(BLOCKS / tiles, depth / (8 * DEPTH)), (int64_t)128);
    if (parts > 1) {
        t.chunk = ceil_div(ceil_div(depth, parts), DEPTH) * DEPTH;
        t.parts = ceil_div(depth, t.chunk);
    }
    return t;
}

/* Bytes of scratch memory, for `outputs` floats of C. */
inline int64_t cut_scratch(const cut &t, int64_t outputs) {
    return t.parts > 1 ? t.parts * outputs * (int64_t)sizeof(float) : 0;
}

/* Whether matrices at p of lines `ld` apart can be read (written) by fours from multiples of n. */
inline int by_fours(const float *p, int64_t ld, int64_t n) {
    return (uintptr_t)p % 16 == 0 && ld % 4 == 0 && n % 4 == 0;
}

/* C has `rows` rows of `columns` floats, of all pieces together; `own`: the columns of a piece. */
template <class S>
void product_launch(const S &shape, const cut &t, operand a, operand b, const float *bias, float *c,
                    int64_t rows, int64_t columns, int64_t ldc, int64_t own, void *scratch) {
    product<S> p = {shape, a, b, bias, c, ldc, 0, t.row_tiles, t.column_tiles,
                    t.pieces, t.parts, t.chunk, 0, k_precision_now() == K_MIXED_BF16};
    if (t.parts > 1) {
        p.bias = nullptr;
        p.c = (float *)scratch;
        p.ldc = columns;
        p.part = rows * columns;
    }
    p.fours = by_fours(p.c, p.ldc, own) && p.part % 4 == 0;
    int64_t blocks = t.row_tiles * t.column_tiles * t.pieces * t.parts, most = 1 << 30;
    dim3 grid((unsigned)min(blocks, most), (unsigned)ceil_div(blocks, most));
    if (t.columns == 64)
        K_LAUNCH((product_kernel<S, 64, 64, 8, 8>), grid, THREADS, p);
    else if (t.columns == 16)
        K_LAUNCH((product_kernel<S, 128, 16, 8, 4>), grid, THREADS, p);
    else
        K_LAUNCH((product_kernel<S, 32, 32, 4, 4>), grid, THREADS, p);
    if (t.parts > 1)
        K_LAUNCH(sum_kernel, k_blocks(rows * columns, 128), 128, rows, columns, t.parts, p.c, bias,
                 c, ldc);
}

} // namespace

#endif
