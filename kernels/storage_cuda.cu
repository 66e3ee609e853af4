/* storage_cuda.cu - rows picked by index, conversion between the stored types and float, and what
 * is written or moved without looking at the bits.
 *
 * Contract: kernels.h; the bits are those of storage_generic.c. All wait for memory, at 4 elements
 * a thread where the arrays are aligned: 4 bytes for a float, 2 for bf16, 1 for u8.
 *
 * Surprising: index_add is slow by choice. A thread owns a column and adds the picks in their
 * order, which gives the same bits every time; a row that it has not seen lately costs it some
 * 300 ns, whatever the card. Thousands of columns hide that, few do not. */
#include "parts_cuda.h"
#include "strided_cuda.h"

namespace {

/* ----------------------------------------------------------------------------------------- rows */

/* Where block and position are, from the number of a row: `outer` blocks of `picks` rows. */
__device__ inline int64_t block_of(int64_t row, int64_t picks) {
    return row <= UINT32_MAX && picks <= UINT32_MAX ? (uint32_t)row / (uint32_t)picks : row / picks;
}

/* inner: of packs of V floats */
template <int V>
__global__ void __launch_bounds__(256)
    select_kernel(int64_t outer, int64_t rows, int64_t picks, int64_t inner, const float *x,
                  const int32_t *index, float *y) {
    typedef k_pack<float, V> pack;
    for (int64_t to = k_first_row(); to < outer * picks; to += k_row_stride()) {
        int64_t block = block_of(to, picks), from = block * rows + index[to - block * picks];
        for (int64_t i = k_first(); i < inner; i += k_stride())
            ((pack *)y)[to * inner + i] = ((const pack *)x)[from * inner + i];
    }
}

void index_select(int64_t outer, int64_t rows, int64_t picks, int64_t inner, const float *x,
                  const int32_t *index, float *y) {
    if (outer * picks * inner == 0) return;
    bool four = inner % 4 == 0 && k_aligned_to(16, x, y);
    int64_t packs = four ? inner / 4 : inner;
    dim3 grid, block;
    k_rows_shape(outer * picks, packs, &grid, &block);
    if (four)
        K_LAUNCH(select_kernel<4>, grid, block, outer, rows, picks, packs, x, index, y);
    else
        K_LAUNCH(select_kernel<1>, grid, block, outer, rows, picks, packs, x, index, y);
}

/* The arrays do not overlap: what is read next need not wait for what is written. */
__global__ void __launch_bounds__(256)
    add_kernel(int64_t outer, int64_t rows, int64_t picks, int64_t inner,
               const float *__restrict__ dy, const int32_t *__restrict__ index,
               float *__restrict__ dx) {
    for (int64_t i = k_first(); i < outer * inner; i += k_stride()) {
        int64_t block = block_of(i, inner), column = i - block * inner;
        float *to = dx + block * rows * inner + column;
        const float *from = dy + block * picks * inner + column;
        for (int64_t r = 0; r < rows; r++) to[r * inner] = 0;
        for (int64_t p = 0; p < picks; p++) to[index[p] * inner] += from[p * inner];
    }
}

void index_add(int64_t outer, int64_t rows, int64_t picks, int64_t inner, const float *dy,
               const int32_t *index, float *dx) {
    int64_t columns = outer * inner;
    if (columns == 0) return;
    /* Small blocks, so that few columns use many multiprocessors. */
    K_LAUNCH(add_kernel, k_blocks(columns, 64), 64, outer, rows, picks, inner, dy, index, dx);
}

/* ----------------------------------------------------------------------------------- conversion */

__device__ inline void convert(float x, float *y) { *y = x; }
__device__ inline void convert(uint8_t x, float *y) { *y = x; }
__device__ inline void convert(int32_t x, float *y) { *y = (float)x; }
__device__ inline void convert(uint16_t x, float *y) { *y = __uint_as_float((unsigned)x << 16); }

__device__ inline void convert(float x, uint16_t *y) {
    unsigned bits = __float_as_uint(x);
    bool nan = (bits & 0x7fffffff) > 0x7f800000; /* quiet: the payload may be in the low half */
    *y = (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

__device__ inline void convert(float x, uint8_t *y) {
    *y = x >= 255 ? 255 : x > 0 ? (uint8_t)x : 0;
}

__device__ inline void convert(float x, int32_t *y) {
    *y = x >= 0x1p31f ? INT32_MAX : x < -0x1p31f ? INT32_MIN : x == x ? (int32_t)x : 0;
}

template <class From, class To, int V>
__global__ void __launch_bounds__(256) convert_kernel(int64_t n, const From *x, To *y) {
    for (int64_t i = k_first(); i < n / V; i += k_stride()) {
        k_pack<From, V> from = ((const k_pack<From, V> *)x)[i];
        k_pack<To, V> to;
        for (int k = 0; k < V; k++) convert(from.v[k], &to.v[k]);
        ((k_pack<To, V> *)y)[i] = to;
    }
    int64_t rest = n / V * V + k_first();
    if (V > 1 && rest < n) convert(x[rest], &y[rest]);
}

template <class From, class To> void convert_all(int64_t n, const void *x, void *y) {
    if (n == 0) return;
    if (k_aligned_to(4 * sizeof(From), x) && k_aligned_to(4 * sizeof(To), y))
        K_LAUNCH((convert_kernel<From, To, 4>), k_blocks(n / 4, 256), 256, n, (const From *)x,
                 (To *)y);
    else
        K_LAUNCH((convert_kernel<From, To, 1>), k_blocks(n, 256), 256, n, (const From *)x, (To *)y);
}

void to_f32(int64_t n, k_dtype dtype, const void *x, float *y) {
    switch (dtype) {
    case K_F32:
        return convert_all<float, float>(n, x, y);
    case K_BF16:
        return convert_all<uint16_t, float>(n, x, y);
    case K_U8:
        return convert_all<uint8_t, float>(n, x, y);
    case K_I32:
        return convert_all<int32_t, float>(n, x, y);
    }
}

void from_f32(int64_t n, k_dtype dtype, const float *x, void *y) {
    switch (dtype) {
    case K_F32:
        return convert_all<float, float>(n, x, y);
    case K_BF16:
        return convert_all<float, uint16_t>(n, x, y);
    case K_U8:
        return convert_all<float, uint8_t>(n, x, y);
    case K_I32:
        return convert_all<float, int32_t>(n, x, y);
    }
}

/* Arrays of floats to bf16: 6 bytes an element, of which a thread takes eight: 16 bytes an access.
 */
enum { CASTS = 144 /* that fit in a launch's arguments */ };
typedef k_parts<k_cast, CASTS> casts;
static_assert(sizeof(casts) <= 4096, "see CASTS");

__global__ void __launch_bounds__(256) narrow_all_kernel(casts b) {
    const k_piece<k_cast> q = k_piece_of(b);
    k_bf16 *to = (k_bf16 *)q.part.y;
    bool aligned = k_aligned_to(16, q.part.x, to);
    for (int64_t i = q.begin + 8 * threadIdx.x; i < q.end; i += 8 * blockDim.x) {
        float v[8];
        if (aligned && i + 8 <= q.end) {
            k_load<true>(q.part.x + i, 8, v);
            k_store<true>(to + i, 8, v);
        } else {
            k_load<false>(q.part.x + i, q.end - i, v);
            k_store<false>(to + i, q.end - i, v);
        }
    }
}

void narrow_all(int64_t parts, const k_cast *part) {
    k_for_parts<CASTS>(parts, part, [](const casts &b, unsigned blocks) {
        K_LAUNCH(narrow_all_kernel, blocks, 256, b);
    });
}

/* ---------------------------------------------------------------------- values that are written */

template <class T, int V>
__global__ void __launch_bounds__(256) fill_kernel(int64_t n, T one, T *y) {
    k_pack<T, V> pack;
    for (int k = 0; k < V; k++) pack.v[k] = one;
    for (int64_t i = k_first(); i < n / V; i += k_stride()) ((k_pack<T, V> *)y)[i] = pack;
    int64_t rest = n / V * V + k_first();
    if (V > 1 && rest < n) y[rest] = one;
}

template <class T> void fill_all(int64_t n, const void *one, void *y) {
    enum { V = 16 / sizeof(T) };
    T value;
    memcpy(&value, one, sizeof value);
    if (n == 0) return;
    if (k_aligned_to(16, y))
        K_LAUNCH((fill_kernel<T, V>), k_blocks(n / V, 256), 256, n, value, (T *)y);
    else
        K_LAUNCH((fill_kernel<T, 1>), k_blocks(n, 256), 256, n, value, (T *)y);
}

void fill(int64_t n, int bytes, const void *one, void *y) {
    if (bytes == 1) fill_all<uint8_t>(n, one, y);
    if (bytes == 2) fill_all<uint16_t>(n, one, y);
    if (bytes == 4) fill_all<uint32_t>(n, one, y);
}

__global__ void __launch_bounds__(256)
    range_kernel(int64_t n, double first, double step, float *y) {
    for (int64_t i = k_first(); i < n; i += k_stride()) /* two roundings, as on the CPU */
        y[i] = (float)__dadd_rn(first, __dmul_rn((double)i, step));
}

void range(int64_t n, double first, double step, float *y) {
    if (n) K_LAUNCH(range_kernel, k_blocks(n, 256), 256, n, first, step, y);
}

/* --------------------------------------------------------------- elements from layout to layout */

template <class T>
__global__ void __launch_bounds__(256)
    elements_kernel(const k_places<2> outer, int64_t rows, int64_t n, int64_t y_step,
                    int64_t a_step, T *y, const T *a) {
    for (int64_t row = k_first_row(); row < rows; row += k_row_stride()) {
        int64_t at[2];
        k_place(outer, row, at);
        for (int64_t i = k_first(); i < n; i += k_stride())
            y[at[0] + i * y_step] = a[at[1] + i * a_step];
    }
}

template <class T> void elements_all(const k_loop *l, const void *a, void *y) {
    const int last = l->nd - 1;
    const int64_t *const stride[2] = {l->sy, l->sa};
    k_places<2> outer;
    int64_t rows = k_places_make(&outer, last, l->size, stride), n = l->size[last];
    if (rows == 0 || n == 0) return;
    dim3 grid, block;
    k_rows_shape(rows, n, &grid, &block);
    K_LAUNCH(elements_kernel<T>, grid, block, outer, rows, n, l->sy[last], l->sa[last], (T *)y,
             (const T *)a);
}

void elements(const k_loop *l, int bytes, const void *a, void *y) {
    if (bytes == 1)
        elements_all<uint8_t>(l, a, y);
    else
        elements_all<uint16_t>(l, a, y);
}

/* ------------------------------------------------------------------------------------- positions
 * A first kernel writes y, and `SUSPECTED` into bad->found if anything is wrong and nothing was
 * before. Only then the second one, a single block, looks for the first wrong value. */

enum { SUSPECTED = 2 };

__device__ inline double number(int32_t x) { return x; } /* a float does not hold all of it */
template <class T> __device__ inline double number(T x) {
    float f;
    convert(x, &f);
    return f;
}

__device__ inline bool is_position(double v, int64_t limit) {
    return v == floor(v) && v >= 1 && v <= (double)limit; /* a NaN is not */
}

template <class T>
__global__ void __launch_bounds__(256)
    positions_kernel(int64_t n, const T *x, int64_t limit, int32_t *y, k_trouble *bad) {
    for (int64_t i = k_first(); i < n; i += k_stride()) {
        double v = number(x[i]);
        bool good = is_position(v, limit);
        y[i] = good ? (int32_t)(v - 1) : 0;
        if (!good) atomicCAS(&bad->found, 0, (int)SUSPECTED);
    }
}

template <class T>
__global__ void __launch_bounds__(1024)
    first_bad_kernel(int64_t n, const T *x, int64_t limit, int op, k_trouble *bad) {
    __shared__ int64_t first[1024];
    if (bad->found != SUSPECTED) return; /* all threads of the block alike */
    const unsigned me = threadIdx.x;
    int64_t i = me;
    while (i < n && is_position(number(x[i]), limit)) i += blockDim.x;
    first[me] = i; /* n or more: none */
    for (unsigned h = blockDim.x / 2; h; h /= 2) {
        __syncthreads();
        if (me < h && first[me + h] < first[me]) first[me] = first[me + h];
    }
    if (me) return;
    bad->op = op;
    bad->at = first[0];
    bad->value = number(x[first[0]]);
    bad->found = 1;
}

template <class T>
void positions_of(int64_t n, const void *x, int64_t limit, int op, int32_t *y, k_trouble *bad) {
    if (n == 0) return;
    K_LAUNCH(positions_kernel<T>, k_blocks(n, 256), 256, n, (const T *)x, limit, y, bad);
    K_LAUNCH(first_bad_kernel<T>, 1, 1024, n, (const T *)x, limit, op, bad);
}

void positions(int64_t n, k_dtype dtype, const void *x, int64_t limit, int op, int32_t *y,
               k_trouble *bad) {
    switch (dtype) {
    case K_F32:
        return positions_of<float>(n, x, limit, op, y, bad);
    case K_BF16:
        return positions_of<uint16_t>(n, x, limit, op, y, bad);
    case K_U8:
        return positions_of<uint8_t>(n, x, limit, op, y, bad);
    case K_I32:
        return positions_of<int32_t>(n, x, limit, op, y, bad);
    }
}
} // namespace

extern "C" void k_storage_cuda(k_table *t) {
    t->index_select = index_select;
    t->index_add = index_add;
    t->to_f32 = to_f32;
    t->from_f32 = from_f32;
    t->narrow_all = narrow_all;
    t->fill = fill;
    t->range = range;
    t->elements = elements;
    t->positions = positions;
}
