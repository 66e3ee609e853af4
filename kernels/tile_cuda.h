/* tile_cuda.h - the one product of matrices under gemm_cuda.cu and conv_cuda.cu, whose operands are
 * read where they lie.
 *
 * C[rows x columns] = A[rows x depth] B[depth x columns] (+ bias). A block of 64 threads makes one
 * tile of C. It goes along the depth in steps of 16: slices of A and B go to shared memory, those
 * of the next step on their way while those of this one are multiplied, one barrier a step.
 *
 * An element of an operand is named by two spots, one of its row (of B: its column) and one of its
 * depth. It lies at the sum of their offsets, and is 0 where the sum of their pixels lies outside
 * the picture. That is a convolution without its im2col matrix; a plain matrix is a picture of one
 * pixel. A file brings a struct that names spots, no loop (see product).
 *
 *   tile      sums of a thread   FMAs for a float read from shared memory
 *   64 x 64       8 x 8          4
 *   128 x 16      8 x 4          2.7    few channels of output
 *   32 x 32       4 x 4          2      small matrices: weights
 *
 * A product takes the tile that multiplies the fewest zeros, weighed by what a tile costs. Where
 * there are too few tiles for the multiprocessors the depth falls into parts: their sums go to
 * scratch memory, and a second kernel adds them in order. The shapes alone decide, no atomics: the
 * same bits in every run.
 *
 * What limits it: FP32 FMAs, a seventh of the rate of TF32 tensor cores, a fifteenth of BF16's. Of
 * all instructions of a 64 x 64 step 66 % are FMAs where floats are read by fours, 48 % where one
 * by one (channels not a multiple of 4); 47 % and 30 % in a 128 x 16 step. So expect some 50 % of
 * an H100's 67 TFLOP/s of large layers (counted in its machine code, not measured). cuBLAS and
 * cuDNN overlay these kernels, as they use the tensor cores. These stay the oracle on the card, and
 * what runs where the libraries are not.
 *
 * Surprising: operands of bf16 come here too, widened in scratch memory (narrow_cuda.cu). */
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

/* Four floats. The host double multiplies them at once too, which trains a net twice as fast. */
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

/* ------------------------------------------------------------------------------------- operands */

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

/* A slice of an operand on its way to shared memory: N lines (rows of A, columns of B) by DEPTH,
 * four neighbours at a time, which lie along the depth (DEEP) or along the lines. */
template <int N, bool DEEP> struct slice {
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

/* ------------------------------------------------------------------------------------- the tile */

/* How a product is cut: into pieces, which are products of their own (groups, phases of a stride),
 * those into tiles, and the sums into parts. */
struct cut {
    int rows, columns; /* of a tile */
    int64_t row_tiles, column_tiles, pieces, parts;
    int64_t chunk; /* the depth of a part */
};

/* What is done to a sum at its end: bias is added, or NULL; ReLU, where NaN stays. */
struct ending {
    const float *bias;
    int relu;

    __device__ float operator()(float sum, int64_t column) const {
        if (bias) sum += bias[column];
        return relu && sum < 0 ? 0 : sum;
    }
};

/* A product of a shape S, which has
 *   A_DEEP, B_DEEP          whether four neighbours of A (B) lie along the depth
 *   enter(piece)            makes it that piece, for which it then has
 *     rows, columns, depth
 *     first                   its first column in C and in bias
 *     a_row(i) a_depth(k)     spots of A
 *     b_column(j) b_depth(k)  spots of B
 *     c_row(i)                where row i is in C, in rows */
template <class S> struct product {
    S shape;
    operand a, b;
    cut cuts;
    ending last;
    float *c;          /* the result, or parts of the sums in scratch memory, dense */
    int64_t ldc, part; /* floats from a row to the next, from a part to the next */
    int fours;         /* c is written by fours */
};

/* Row i of the R rows of a thread among the N of a tile (or column): fours of neighbours, apart, so
 * that the threads of a warp read neighbouring fours. */
template <int N, int R> __device__ inline int own(int thread, int i) {
    return i / 4 * (N / (R / 4)) + thread * 4 + i % 4;
}

/* What a thread sums of a tile: R x C. */
template <int ROWS, int COLUMNS, int R, int C> struct tile {
    four sum[R][C / 4];

    static __device__ int row() { return threadIdx.x / (COLUMNS / C); }
    static __device__ int column() { return threadIdx.x % (COLUMNS / C); }

    __device__ void clear() {
        UNROLLED for (int i = 0; i < R * C / 4; i++) { sum[i % R][i / R] = four{0, 0, 0, 0}; }
    }

    __device__ void multiply(const float (*a)[ROWS + PAD], const float (*b)[COLUMNS + PAD]) {
        STEPS for (int k = 0; k < DEPTH; k++) {
            four v[C / 4];
            UNROLLED for (int j = 0; j < C / 4; j++) {
                v[j] = *(const four *)&b[k][own<COLUMNS, C>(column(), j * 4)];
            }
            UNROLLED for (int i = 0; i < R; i += 4) {
                float4 u = *(const float4 *)&a[k][own<ROWS, R>(row(), i)];
                UNROLLED for (int j = 0; j < C / 4; j++) {
                    sum[i][j] += u.x * v[j];
                    sum[i + 1][j] += u.y * v[j];
                    sum[i + 2][j] += u.z * v[j];
                    sum[i + 3][j] += u.w * v[j];
                }
            }
        }
    }

    /* c: of the tile's first column, number `begin` of the whole, of which `columns` are there;
     * c_row[i] < 0: no row. */
    __device__ void write(float *c, const int64_t *c_row, const ending &last, int64_t begin,
                          int64_t columns, bool fours) {
        UNROLLED for (int j = 0; j < C; j += 4) {
            int64_t first = own<COLUMNS, C>(column(), j);
            UNROLLED for (int i = 0; i < R; i++) {
                int64_t at = c_row[own<ROWS, R>(row(), i)];
                if (at < 0) continue;
                alignas(16) float v[4];
                *(four *)v = sum[i][j / 4];
                UNROLLED for (int n = 0; n < 4; n++) {
                    bool there = first + n < columns;
                    if (there) v[n] = last(v[n], begin + first + n);
                    if (there && !fours) c[at + first + n] = v[n];
                }
                if (fours && first < columns) *(four *)(c + at + first) = *(four *)v;
            }
        }
    }
};

/* One tile of one part of C. */
template <class S, int ROWS, int COLUMNS, int R, int C>
__global__ void __launch_bounds__(THREADS) product_kernel(const product<S> p) {
    __shared__ float a[2][DEPTH][ROWS + PAD], b[2][DEPTH][COLUMNS + PAD];
    __shared__ spot a_row[ROWS], b_column[COLUMNS], a_depth[2][DEPTH], b_depth[2][DEPTH];
    __shared__ int64_t c_row[ROWS];

    S shape = p.shape;
    int64_t block = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    int64_t column = block % p.cuts.column_tiles * COLUMNS;
    block /= p.cuts.column_tiles;
    int64_t row = block % p.cuts.row_tiles * ROWS;
    block /= p.cuts.row_tiles;
    shape.enter(block % p.cuts.pieces);
    int64_t part = block / p.cuts.pieces;
    if (part >= p.cuts.parts || row >= shape.rows) return; /* pieces differ in their rows */
    int64_t begin = part * p.cuts.chunk, end = min(begin + p.cuts.chunk, shape.depth);

    int me = threadIdx.x;
    for (int i = me; i < ROWS; i += THREADS) {
        bool there = row + i < shape.rows;
        a_row[i] = there ? shape.a_row(row + i) : nowhere();
        c_row[i] = there ? shape.c_row(row + i) * p.ldc : -1;
    }
    for (int i = me; i < COLUMNS; i += THREADS)
        b_column[i] = column + i < shape.columns ? shape.b_column(column + i) : nowhere();
    /* The spots of DEPTH depths: a warp for each operand. */
    auto locate = [&](int64_t from, int slot) {
        int i = me % (THREADS / 2);
        int64_t k = from + i;
        if (i >= DEPTH) return;
        if (i == me)
            a_depth[slot][i] = k < end ? shape.a_depth(k) : nowhere();
        else
            b_depth[slot][i] = k < end ? shape.b_depth(k) : nowhere();
    };
    locate(begin, 0);
    locate(begin + DEPTH, 1);
    __syncthreads();

    slice<ROWS, S::A_DEEP> next_a;
    slice<COLUMNS, S::B_DEEP> next_b;
    auto fetch = [&](int slot) {
        next_a.fetch(p.a, a_row, a_depth[slot]);
        next_b.fetch(p.b, b_column, b_depth[slot]);
    };
    auto place = [&](int slot) {
        next_a.place(a[slot]);
        next_b.place(b[slot]);
    };
    fetch(0);
    place(0);
    __syncthreads();
    tile<ROWS, COLUMNS, R, C> t;
    t.clear();
    bool busy = row + t.row() * 4 < shape.rows && column + t.column() * 4 < shape.columns;
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
    int64_t first = shape.first + column;
    t.write(p.c + part * p.part + first, c_row, p.last, first, shape.columns - column, p.fours);
}

/* c = the sum of the parts in their order, ended. 4 bytes are read for each part, 4 written. */
__global__ void sum_kernel(int64_t rows, int64_t columns, int64_t parts, const float *part,
                           ending last, float *c, int64_t ldc) {
    int64_t n = rows * columns;
    for (int64_t i = k_first(); i < n; i += k_stride()) {
        float sum = 0;
        STEPS for (int64_t p = 0; p < parts; p++) { sum += part[p * n + i]; }
        c[i / columns * ldc + i % columns] = last(sum, i % columns);
    }
}

/* ----------------------------------------------------------------------------------- the launch */

/* rows, columns, depth: the most that a piece has. */
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
    int64_t tiles = max(t.row_tiles * t.column_tiles * pieces, (int64_t)1);
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

/* C has `rows` rows of `columns` floats, all pieces together; a piece has `width` columns. */
template <class S>
void product_launch(const S &shape, const cut &t, operand a, operand b, ending last, float *c,
                    int64_t rows, int64_t columns, int64_t ldc, int64_t width, void *scratch) {
    product<S> p = {shape, a, b, t, last, c, ldc, 0, 0};
    if (t.parts > 1) {
        p.last = ending{nullptr, 0};
        p.c = (float *)scratch;
        p.ldc = columns;
        p.part = rows * columns;
    }
    p.fours = by_fours(p.c, p.ldc, width) && p.part % 4 == 0;
    int64_t blocks = t.row_tiles * t.column_tiles * t.pieces * t.parts, most = 1 << 30;
    dim3 grid((unsigned)min(blocks, most), (unsigned)ceil_div(blocks, most));
    if (t.columns == 64)
        K_LAUNCH((product_kernel<S, 64, 64, 8, 8>), grid, THREADS, p);
    else if (t.columns == 16)
        K_LAUNCH((product_kernel<S, 128, 16, 8, 4>), grid, THREADS, p);
    else
        K_LAUNCH((product_kernel<S, 32, 32, 4, 4>), grid, THREADS, p);
    if (t.parts > 1)
        K_LAUNCH(sum_kernel, k_blocks(rows * columns, 128), 128, rows, columns, t.parts, p.c, last,
                 c, ldc);
}

} // namespace

#endif
