/* pointwise_cuda.cu - every elementwise operation as one line: its name, inputs and formula.
 *
 * Contract: k_pointwise in kernels.h; pointwise_generic.c says which NaN and which zero comes out.
 * All of them wait for memory: 4 bytes an element (2 of bf16) for y and for each input that is not
 * broadcast. An array is seen as rows (dense: a single one) that threads walk 16 bytes at a time
 * where rows are dense and aligned (8 where those of bf16 begin or end within 16), else an element
 * at a time. What lies in memory as bf16 is computed in float32 and rounded once.
 *
 * Surprising: a copy between two layouts is a case of its own. Walked along y it would read one
 * element of each 32 bytes that the memory sends, so it goes through a tile in shared memory, which
 * is filled along a and emptied along y. */
#include "strided_cuda.h"

/* -------------------------------------------------------------------- elements, V of them at once
 * k_bf16 rounds what is stored. k_half is for copies: it keeps every bit, those of a NaN too. */

struct k_half {
    uint16_t bits;
};

static __device__ inline float k_wide(k_half x) { return __uint_as_float((unsigned)x.bits << 16); }
static __device__ inline void k_put(k_half *p, float x) {
    p->bits = (uint16_t)(__float_as_uint(x) >> 16);
}

static __device__ inline unsigned k_pair(const k_half *, float low, float high) {
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000);
}

/* ------------------------------------------------------------------------------- the operations */

static __device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static __device__ inline float clamped(float x, float lo, float hi) {
    x = lo > x ? lo : x;
    return hi < x ? hi : x;
}

/* The normal distribution's integral and density; erfcf keeps its digits far left of zero. */
static __device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static __device__ inline float normal_pdf(float x) { return 0.39894228f * expf(-0.5f * x * x); }

#define OPERATION(name, taken, of_bf16, formula)                                                   \
    struct name##_op {                                                                             \
        enum { inputs = taken, narrow = of_bf16 };                                                 \
        static __device__ inline float of(float a, float b, float c, float p0, float p1) {         \
            (void)a, (void)b, (void)c, (void)p0, (void)p1;                                         \
            return formula;                                                                        \
        }                                                                                          \
    };
#define POINTWISE(name, taken, formula)  OPERATION(name, taken, 1, formula)
#define FLOAT_ONLY(name, taken, formula) OPERATION(name, taken, 0, formula)

namespace {
POINTWISE(copy, 1, a)
POINTWISE(add, 2, a + b)
POINTWISE(sub, 2, a - b)
POINTWISE(mul, 2, a *b)
POINTWISE(div, 2, a / b)
POINTWISE(pow, 2, powf(a, b))
POINTWISE(maximum, 2, a > b || a != a ? a : b)
POINTWISE(minimum, 2, a < b || a != a ? a : b)
FLOAT_ONLY(eq, 2, a == b)
FLOAT_ONLY(ne, 2, a != b)
FLOAT_ONLY(lt, 2, a < b)
FLOAT_ONLY(le, 2, a <= b)
FLOAT_ONLY(gt, 2, a > b)
FLOAT_ONLY(ge, 2, a >= b)
POINTWISE(where, 3, a != 0 ? b : c)
POINTWISE(neg, 1, -a)
POINTWISE(exp, 1, expf(a))
POINTWISE(log, 1, logf(a))
POINTWISE(sqrt, 1, sqrtf(a))
POINTWISE(abs, 1, fabsf(a))
POINTWISE(sign, 1, a != a ? a : (float)((a > 0) - (a < 0)))
POINTWISE(tanh, 1, tanhf(a))
POINTWISE(sigmoid, 1, sigmoid(a))
POINTWISE(relu, 1, 0 > a ? 0 : a)
POINTWISE(leaky_relu, 1, a > 0 ? a : p0 * a)
POINTWISE(gelu, 1, a *normal_cdf(a))
POINTWISE(silu, 1, a / (1 + expf(-a)))
POINTWISE(clamp, 1, clamped(a, p0, p1))
POINTWISE(affine, 1, p0 *a + p1)
POINTWISE(tanh_grad, 2, a *(1 - b * b))
POINTWISE(sigmoid_grad, 2, a *b *(1 - b))
POINTWISE(relu_grad, 2, b > 0 ? a : 0)
POINTWISE(leaky_relu_grad, 2, b > 0 ? a : p0 * a)
POINTWISE(gelu_grad, 2, a *(normal_cdf(b) + b * normal_pdf(b)))
POINTWISE(silu_grad, 2, a *sigmoid(b) * (1 + b * (1 - sigmoid(b))))
POINTWISE(clamp_grad, 2, p0 < b && b < p1 ? a : 0)

/* ----------------------------------------------------------------------------------- row by row */

/* y and its N - 1 inputs; `step` from an element of a row to the next. */
template <class T, int N> struct rows_job {
    k_places<N> row;
    int64_t rows, n, step[N];
    T *array[N]; /* all but the first are only read */
    float p0, p1;
};

template <class F, class T, int N>
__device__ inline float value(const rows_job<T, N> &j, const float (&in)[N]) {
    return F::of(in[1], N > 2 ? in[N > 2 ? 2 : 1] : 0, N > 3 ? in[N - 1] : 0, j.p0, j.p1);
}

/* V elements of a row from i: all of them exist, the arrays are dense, or broadcast with step 0. */
template <class F, int V, class T, int N>
__device__ inline void several(const rows_job<T, N> &j, const int64_t (&at)[N], int64_t i) {
    float in[N][V], y[V];
    for (int m = 1; m < N; m++) {
        const T *from = j.array[m] + at[m] + i * j.step[m];
        if (j.step[m])
            k_take(from, in[m]);
        else
            for (int k = 0; k < V; k++) in[m][k] = k_wide(*from);
    }
    for (int k = 0; k < V; k++) {
        float one[N];
        for (int m = 1; m < N; m++) one[m] = in[m][k];
        y[k] = value<F>(j, one);
    }
    k_give(j.array[0] + at[0] + i, y);
}

template <class F, class T, int N>
__device__ inline void single(const rows_job<T, N> &j, const int64_t (&at)[N], int64_t i) {
    float in[N];
    for (int m = 1; m < N; m++) in[m] = k_wide(j.array[m][at[m] + i * j.step[m]]);
    k_put(j.array[0] + at[0] + i * j.step[0], value<F>(j, in));
}

template <class F, int V, class T>
__global__ void __launch_bounds__(256) rows_kernel(const rows_job<T, F::inputs + 1> j) {
    int64_t packs = (j.n + V - 1) / V, at[F::inputs + 1];
    for (int64_t row = k_first_row(); row < j.rows; row += k_row_stride()) {
        k_place(j.row, row, at);
        for (int64_t k = k_first(); k < packs; k += k_stride()) {
            int64_t i = k * V, end = i + V;
            if constexpr (V > 1) {
                if (end <= j.n) {
                    several<F, V>(j, at, i);
                    continue;
                }
            }
            for (; i < end && i < j.n; i++) single<F>(j, at, i);
        }
    }
}

/* Whether rows can be walked v elements at a time. */
template <class T, int N> bool by_pack(const rows_job<T, N> &j, int v) {
    bool yes = j.n >= v && j.step[0] == 1;
    for (int m = 0; m < N; m++) {
        if (j.step[m] == 0 && m) continue;
        yes = yes && j.step[m] == 1 && k_aligned_to(v * (int)sizeof(T), j.array[m]);
        for (int d = 0; d < j.row.nd; d++) yes = yes && j.row.stride[m][d] % v == 0;
    }
    return yes;
}

template <class F, int V, class T, int N> void walk(const rows_job<T, N> &j) {
    dim3 grid, block;
    k_rows_shape(j.rows, (j.n + V - 1) / V, &grid, &block);
    K_LAUNCH((rows_kernel<F, V, T>), grid, block, j);
}

template <class F, class T>
void run(const k_loop *l, float *y, const float *a, const float *b, const float *c,
         const float *p) {
    enum { N = F::inputs + 1, MOST = 16 / sizeof(T) };
    const int64_t *const every[4] = {l->sy, l->sa, l->sb, l->sc}, *stride[N];
    const float *const from[4] = {y, a, b, c};
    const int last = l->nd - 1;
    rows_job<T, N> j;
    for (int m = 0; m < N; m++) {
        stride[m] = every[m];
        j.array[m] = (T *)from[m];
        j.step[m] = every[m][last];
    }
    j.rows = k_places_make(&j.row, last, l->size, stride);
    j.n = l->size[last];
    j.p0 = p[0];
    j.p1 = p[1];
    if (j.rows == 0 || j.n == 0) return;
    if (by_pack(j, MOST))
        walk<F, MOST>(j);
    else if (by_pack(j, 4)) /* bf16 in rows that begin or end within 16 bytes */
        walk<F, 4>(j);
    else
        walk<F, 1>(j);
}

/* ---------------------------------------------------------------- copies from a layout to another
 * Tiles of EDGE x EDGE elements of the two dimensions in which y and in which a is dense. Each
 * element is read once and written once, 128 bytes of either array at a time, or 64 of bf16. */

enum { EDGE = 32, DOWN = 8 };

template <class T> struct tiles_job {
    k_places<2> outer;                    /* y, a: the other dimensions */
    int64_t outers, ny, na;               /* ny: along the dimension in which y is dense */
    int64_t down, across, a_step, y_step; /* tiles; steps of a along ny, of y along na */
    T *y;
    const T *a;
};

template <class T>
__global__ void __launch_bounds__(EDGE *DOWN) tiles_kernel(const tiles_job<T> j) {
    /* One more: a column lies in 32 different banks, of bf16 in 31 or 32. */
    __shared__ T tile[EDGE][EDGE + 1];
    int64_t tiles = j.down * j.across;
    for (int64_t t = blockIdx.x; t < j.outers * tiles; t += gridDim.x) {
        int64_t outer = t / tiles, rest = t - outer * tiles, at[2];
        int64_t y0 = rest / j.across * EDGE, a0 = rest % j.across * EDGE;
        k_place(j.outer, outer, at);
        for (int r = (int)threadIdx.y; r < EDGE; r += DOWN)
            if (y0 + r < j.ny && a0 + threadIdx.x < j.na)
                tile[r][threadIdx.x] = j.a[at[1] + (y0 + r) * j.a_step + a0 + threadIdx.x];
        __syncthreads();
        for (int r = (int)threadIdx.y; r < EDGE; r += DOWN)
            if (a0 + r < j.na && y0 + threadIdx.x < j.ny)
                j.y[at[0] + (a0 + r) * j.y_step + y0 + threadIdx.x] = tile[threadIdx.x][r];
        __syncthreads();
    }
}

/* The dimension in which a is dense, if tiles serve: both it and y's innermost are long enough. */
int dense_in_a(const k_loop *l) {
    const int last = l->nd - 1;
    if (l->sy[last] != 1 || l->sa[last] == 1 || l->sa[last] == 0 || l->size[last] < DOWN) return -1;
    for (int d = 0; d < last; d++)
        if (l->sa[d] == 1 && l->size[d] >= DOWN) return d;
    return -1;
}

template <class T> void copy_tiles(const k_loop *l, int dense, float *y, const float *a) {
    const int last = l->nd - 1;
    int64_t size[K_MAX_DIMS], sy[K_MAX_DIMS], sa[K_MAX_DIMS];
    const int64_t *const stride[2] = {sy, sa};
    int nd = 0;
    for (int d = 0; d < last; d++) {
        if (d == dense) continue;
        size[nd] = l->size[d];
        sy[nd] = l->sy[d];
        sa[nd++] = l->sa[d];
    }
    tiles_job<T> j;
    j.outers = k_places_make(&j.outer, nd, size, stride);
    j.ny = l->size[last];
    j.na = l->size[dense];
    j.down = (j.ny + EDGE - 1) / EDGE;
    j.across = (j.na + EDGE - 1) / EDGE;
    j.a_step = l->sa[last];
    j.y_step = l->sy[dense];
    j.y = (T *)y;
    j.a = (const T *)a;
    int64_t tiles = j.outers * j.down * j.across;
    if (tiles) K_LAUNCH(tiles_kernel<T>, k_blocks(tiles, 1), dim3(EDGE, DOWN), j);
}

template <class T>
void copy(const k_loop *l, float *y, const float *a, const float *b, const float *c,
          const float *p) {
    int dense = dense_in_a(l);
    if (dense >= 0)
        copy_tiles<T>(l, dense, y, a);
    else
        run<copy_op, T>(l, y, a, b, c, p);
}

/* ------------------------------------------------------------------------------------- the tables
 * A slot that bf16 does not have is not compiled for it and stays as it is. */

template <class F, class T> void set(k_pointwise **slot) {
    if constexpr (sizeof(T) == sizeof(float) || F::narrow) *slot = run<F, T>;
}
template <> void set<copy_op, float>(k_pointwise **slot) { *slot = copy<float>; }
template <> void set<copy_op, k_bf16>(k_pointwise **slot) { *slot = copy<k_half>; }
} // namespace

#define SET(name)        set<name##_op, float>(&t->name);
#define SET_NARROW(name) set<name##_op, k_bf16>(&t->name);
extern "C" void k_pointwise_cuda(k_table *t) { K_POINTWISE(SET) }
extern "C" void k_pointwise_narrow_cuda(k_table *t) { K_POINTWISE(SET_NARROW) }
