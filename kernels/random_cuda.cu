/* random_cuda.cu - random numbers out of a counter, and the shuffle of a data set.
 *
 * Contract: random_generic.c, whose numbers these are: the same bits for uniform, dropout and
 * shuffle; normal to the last bit of a float, since the mathematical libraries differ. One thread
 * makes one Philox block, the 4 elements of it. What a draw is may change from one run of a
 * recorded step to the next (k_live).
 *
 * Cost: uniform writes 4 bytes an element, dropout moves 8, or 4 of bf16; ten rounds of Philox are
 * some 25 instructions an element and hide behind that. normal computes in double: slow on most
 * cards, and done once for each weight of a net.
 *
 * Surprising: nothing may be fused here. uniform's lo + (hi - lo) * u as one operation would give
 * other bits than the CPU's, hence __fmul_rn and __fadd_rn. */
#include "four_cuda.h"

enum { BLOCK = 4, THREADS = 256 };

static __device__ uint4 philox(uint64_t counter, k_draw d) {
    unsigned c0 = (unsigned)counter, c1 = (unsigned)(counter >> 32);
    unsigned c2 = (unsigned)d.stream, c3 = (unsigned)(d.stream >> 32);
    unsigned k0 = (unsigned)d.seed, k1 = (unsigned)(d.seed >> 32);
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, c0), high1 = __umulhi(0xCD9E8D57u, c2);
        unsigned low0 = 0xD2511F53u * c0, low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

/* [0, 1) in steps of 2^-24, exact in float. */
static __device__ float unit(unsigned word) { return (float)(word >> 8) * 0x1p-24f; }

static __device__ k_four units(uint4 w) { return {unit(w.x), unit(w.y), unit(w.z), unit(w.w)}; }

/* -------------------------------------------------------------------------- what becomes of them
 */

struct uniform_values {
    float lo, width;
    const float *x; /* not read */
    __device__ k_four operator()(uint4 word, k_four) const {
        k_four u = units(word);
        for (int k = 0; k < BLOCK; k++) u.v[k] = __fadd_rn(lo, __fmul_rn(width, u.v[k]));
        return u;
    }
};

struct normal_values {
    float mean, std;
    const float *x; /* not read */
    __device__ void pair(unsigned word1, unsigned word2, float *v) const {
        double u1 = ((word1 >> 8) + 1) * 0x1p-24, u2 = (word2 >> 8) * 0x1p-24;
        double r = sqrt(-2 * log(u1)), s, c;
        sincos(2 * M_PI * u2, &s, &c);
        v[0] = (float)(mean + std * (r * c));
        v[1] = (float)(mean + std * (r * s));
    }
    __device__ k_four operator()(uint4 word, k_four) const {
        k_four z;
        pair(word.x, word.y, z.v);
        pair(word.z, word.w, z.v + 2);
        return z;
    }
};

template <class T> struct dropout_values {
    float p, scale;
    const T *x;
    __device__ k_four operator()(uint4 word, k_four x4) const {
        k_four u = units(word);
        for (int k = 0; k < BLOCK; k++) u.v[k] = u.v[k] < p ? 0 : x4.v[k] * scale;
        return u;
    }
};

template <class V, class T>
__global__ void draw_kernel(int64_t n, k_draw given, const k_draw *live, V values, T *y,
                            int aligned) {
    k_draw d = live ? *live : given;
    for (int64_t b = k_first(); b * BLOCK < n; b += k_stride()) {
        k_four x4 = {};
        if (values.x) x4 = k_four_load(values.x, b * BLOCK, n, aligned);
        k_four_store(y, b * BLOCK, n, aligned, values(philox(b, d), x4));
    }
}

template <class V, class T> static void draw(int64_t n, const k_draw *d, V values, T *y) {
    if (n <= 0) return;
    K_LAUNCH((draw_kernel<V, T>), k_blocks((n + BLOCK - 1) / BLOCK, THREADS), THREADS, n, *d,
             (const k_draw *)k_live(), values, y, k_aligned_to(BLOCK * sizeof(T), values.x, y));
}

static void uniform(int64_t n, const k_draw *d, float lo, float hi, float *y) {
    draw(n, d, uniform_values{lo, hi - lo, 0}, y);
}

static void normal(int64_t n, const k_draw *d, float mean, float std, float *y) {
    draw(n, d, normal_values{mean, std, 0}, y);
}

template <class T>
static void dropout(int64_t n, const k_draw *d, float p, const float *x, float *y) {
    draw(n, d, dropout_values<T>{p, 1 / (1 - p), (const T *)x}, (T *)y);
}

/* -------------------------------------------------------------------------------------- shuffle
 * A bitonic sort (Batcher 1968) of numbers of 64 bits: the key above, the place below, so that
 * shared keys are in order of their places. They fill `padded` positions, a power of two; what is
 * no place is larger than all that are.
 *
 * Strides within a tile are done in shared memory, all of them in one pass. With padded = 2^m tiles
 * that makes one pass that sorts the tiles, and for each doubling from there one for each far
 * stride and one that does the near ones: 1 + m * (m + 1) / 2 + m passes of 16 bytes an item (1 for
 * up to 4096 items, 15 for the 60 000 of MNIST, 55 for ImageNet's 1.3 million, 91 for 2^24). */

enum { TILE = 4096, TILE_THREADS = TILE / BLOCK };

static int64_t padded_count(int64_t n) {
    int64_t padded = TILE;
    while (padded < n) padded *= 2;
    return padded;
}

static __device__ void put_in_order(uint64_t *low, uint64_t *high, bool rising) {
    uint64_t a = *low, b = *high;
    if ((a > b) != rising) return;
    *low = b;
    *high = a;
}

/* The lower position of pair number i of those that are `stride` apart. */
static __device__ int64_t lower_of(int64_t i, int64_t stride) {
    return (i & ~(stride - 1)) * 2 + (i & (stride - 1));
}

/* The strides below `stride` * 2 in runs of `size`, in a tile that begins at position `base`. */
static __device__ void merge_near(uint64_t *item, int64_t base, int64_t size, int stride) {
    for (; stride; stride /= 2) {
        __syncthreads();
        for (int i = threadIdx.x; i < TILE / 2; i += TILE_THREADS) {
            int low = (int)lower_of(i, stride);
            put_in_order(&item[low], &item[low + stride], ((base + low) & size) == 0);
        }
    }
    __syncthreads();
}

/* Where the tile goes: to the scratch memory, or, when all is sorted, its places to `order`. */
static __device__ void put_tile(const uint64_t *item, int64_t base, int64_t n, uint64_t *to,
                                int32_t *order) {
    for (int i = threadIdx.x; i < TILE; i += TILE_THREADS) {
        if (!order)
            to[base + i] = item[i];
        else if (base + i < n)
            order[base + i] = (int32_t)item[i];
    }
}

__global__ void sort_tiles_kernel(int64_t n, k_draw given, const k_draw *live, uint64_t *to,
                                  int32_t *order) {
    __shared__ uint64_t item[TILE];
    k_draw d = live ? *live : given;
    int64_t base = (int64_t)blockIdx.x * TILE;
    int mine = threadIdx.x * BLOCK;
    uint4 w = philox((base + mine) / BLOCK, d);
    unsigned word[BLOCK] = {w.x, w.y, w.z, w.w};
    for (int k = 0; k < BLOCK; k++) {
        uint64_t place = base + mine + k;
        item[mine + k] = place < (uint64_t)n ? (uint64_t)(word[k] >> 8) << 32 | place : ~0ull;
    }
    for (int size = 2; size <= TILE; size *= 2) merge_near(item, base, size, size / 2);
    put_tile(item, base, n, to, order);
}

__global__ void swap_far_kernel(int64_t pairs, uint64_t *item, int64_t size, int64_t stride) {
    for (int64_t i = k_first(); i < pairs; i += k_stride()) {
        int64_t low = lower_of(i, stride);
        put_in_order(&item[low], &item[low + stride], (low & size) == 0);
    }
}

__global__ void merge_tiles_kernel(int64_t n, uint64_t *from, int64_t size, int32_t *order) {
    __shared__ uint64_t item[TILE];
    int64_t base = (int64_t)blockIdx.x * TILE;
    for (int i = threadIdx.x; i < TILE; i += TILE_THREADS) item[i] = from[base + i];
    merge_near(item, base, size, TILE / 2);
    put_tile(item, base, n, from, order);
}

static int64_t shuffle_scratch(int64_t n) { return padded_count(n) * (int64_t)sizeof(uint64_t); }

static void shuffle(int64_t n, const k_draw *d, int32_t *order, void *scratch) {
    if (n <= 0) return;
    int64_t padded = padded_count(n);
    unsigned tiles = (unsigned)(padded / TILE);
    uint64_t *item = (uint64_t *)scratch;
    int32_t *none = 0;
    K_LAUNCH(sort_tiles_kernel, tiles, TILE_THREADS, n, *d, (const k_draw *)k_live(), item,
             tiles == 1 ? order : none);
    for (int64_t size = 2 * TILE; size <= padded; size *= 2) {
        for (int64_t stride = size / 2; stride >= TILE; stride /= 2)
            K_LAUNCH(swap_far_kernel, k_blocks(padded / 2, THREADS), THREADS, padded / 2, item,
                     size, stride);
        K_LAUNCH(merge_tiles_kernel, tiles, TILE_THREADS, n, item, size,
                 size == padded ? order : none);
    }
}

/* ------------------------------------------------------------------------------------- the slots
 */

extern "C" void k_random_cuda(k_table *t) {
    t->uniform = uniform;
    t->normal = normal;
    t->dropout = dropout<float>;
    t->shuffle = shuffle;
    t->shuffle_scratch = shuffle_scratch;
}

extern "C" void k_random_narrow_cuda(k_table *t) { t->dropout = dropout<k_bf16>; }
