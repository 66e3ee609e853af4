/* pointwise_cuda.cu - every elementwise operation as one line: its name, inputs and formula.
 *
 * Contract: k_pointwise in kernels.h; pointwise_generic.c says which NaN and which zero comes out.
 * All of them wait for memory: 4 bytes an element for y and for each input that is not broadcast.
 * An array is seen as rows (dense: a single one) that threads walk 16 bytes at a time where rows
 * are dense and aligned, else an element at a time.
 *
 * Surprising: a copy between two layouts is a case of its own. Walked along y it would read one
 * element of each 32 bytes that the memory sends, so it goes through a tile in shared memory, which
 * is filled along a and emptied along y. */
#include "strided_cuda.h"

/* ------------------------------------------------------------------------------- the operations */

static __device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

static __device__ inline float clamped(float x, float lo, float hi) {
    x = lo > x ? lo : x;
    return hi < x ? hi : x;
}

/* The normal distribution's integral and density; erfcf keeps its digits far left of zero. */
static __device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
static __device__ inline float normal_pdf(float x) { return 0.39894228f * expf(-0.5f * x * x); }

#define POINTWISE(name, taken, formula)                                                            \
    struct name##_op {                                                                             \
        enum { inputs = taken };                                                                   \
        static __device__ inline float of(float a, float b, float c, float p0, float p1) {         \
            (void)a, (void)b, (void)c, (void)p0, (void)p1;                                         \
            return formula;                                                                        \
        }                                                                                          \
    };

namespace {
POINTWISE(copy, 1, a)
POINTWISE(add, 2, a + b)
POINTWISE(sub, 2, a - b)
POINTWISE(mul, 2, a *b)
POINTWISE(div, 2, a / b)
POINTWISE(pow, 2, powf(a, b))
POINTWISE(maximum, 2, a > b || a != a ? a : b)
POINTWISE(minimum, 2, a < b || a != a ? a : b)
POINTWISE(eq, 2, a == b)
POINTWISE(ne, 2, a != b)
POINTWISE(lt, 2, a < b)
POINTWISE(le, 2, a <= b)
POINTWISE(gt, 2, a > b)
POINTWISE(ge, 2, a >= b)
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
template <int N> struct rows_job {
    k_places<N> row;
    int64_t rows, n, step[N];
    float *array[N]; /* all but the first are only read */
    float p0, p1;
};

template <class F, int N>
__device__ inline float value(const rows_job<N> &j, const float (&in)[N]) {
    return F::of(in[1], N > 2 ? in[N > 2 ? 2 : 1] : 0, N > 3 ? in[N - 1] : 0, j.p0, j.p1);
}

/* V elements of a row from i: all of them exist, the arrays are dense, or broadcast with step 0. */
template <class F, int V, int N>
__device__ inline void several(const rows_job<N> &j, const int64_t (&at)[N], int64_t i) {
    k_pack<float, V> in[N], y;
    for (int m = 1; m < N; m++) {
        const float *from = j.array[m] + at[m] + i * j.step[m];
        if (j.step[m])
            in[m] = *(const k_pack<float, V> *)from;
        else
            for (int k = 0; k < V; k++) in[m].v[k] = *from;
    }
    for (int k = 0; k < V; k++) {
        float one[N];
        for (int m = 1; m < N; m++) one[m] = in[m].v[k];
        y.v[k] = value<F>(j, one);
    }
    *(k_pack<float, V> *)(j.array[0] + at[0] + i) = y;
}

template <class F, int N>
__device__ inline void single(const rows_job<N> &j, const int64_t (&at)[N], int64_t i) {
    float in[N];
    for (int m = 1; m < N; m++) in[m] = j.array[m][at[m] + i * j.step[m]];
    j.array[0][at[0] + i * j.step[0]] = value<F>(j, in);
}

template <class F, int V>
__global__ void __launch_bounds__(256) rows_kernel(const rows_job<F::inputs + 1> j) {
    int64_t packs = (j.n + V - 1) / V, at[F::inputs + 1];
    for (int64_t row = k_first_row(); row < j.rows; row += k_row_stride()) {
        k_place(j.row, row, at);
        for (int64_t k = k_first(); k < packs; k += k_stride()) {
            int64_t i = k * V, end = i + V;
            if (V > 1 && end <= j.n)
                several<F, V>(j, at, i);
            else
                for (; i < end && i < j.n; i++) single<F>(j, at, i);
        }
    }
}

/* Whether rows can be walked four floats at a time. */
template <int N> bool by_four(const rows_job<N> &j) {
    bool yes = j.n >= 4 && j.step[0] == 1;
    for (int m = 0; m < N; m++) {
        if (j.step[m] == 0 && m) continue;
        yes = yes && j.step[m] == 1 && k_aligned_to(sizeof(k_four), j.array[m]);
        for (int d = 0; d < j.row.nd; d++) yes = yes && j.row.stride[m][d] % 4 == 0;
    }
    return yes;
}

template <class F>
void run(const k_loop *l, float *y, const float *a, const float *b, const float *c,
         const float *p) {
    enum { N = F::inputs + 1 };
    const int64_t *const every[4] = {l->sy, l->sa, l->sb, l->sc}, *stride[N];
    const float *const from[4] = {y, a, b, c};
    const int last = l->nd - 1;
    rows_job<N> j;
    for (int m = 0; m < N; m++) {
        stride[m] = every[m];
        j.array[m] = const_cast<float *>(from[m]);
        j.step[m] = every[m][last];
    }
    j.rows = k_places_make(&j.row, last, l->size, stride);
    j.n = l->size[last];
    j.p0 = p[0];
    j.p1 = p[1];
    if (j.rows == 0 || j.n == 0) return;
    dim3 grid, block;
    bool four = by_four(j);
    k_rows_shape(j.rows, four ? (j.n + 3) / 4 : j.n, &grid, &block);
    if (four)
        K_LAUNCH((rows_kernel<F, 4>), grid, block, j);
    else
        K_LAUNCH((rows_kernel<F, 1>), grid, block, j);
}

/* ---------------------------------------------------------------- copies from a layout to another
 * Tiles of EDGE x EDGE elements of the two dimensions in which y and in which a is dense. Each
 * element is read once and written once, 128 bytes of either array at a time. */

enum { EDGE = 32, DOWN = 8 };

struct tiles_job {
    k_places<2> outer;                    /* y, a: the other dimensions */
    int64_t outers, ny, na;               /* ny: along the dimension in which y is dense */
    int64_t down, across, a_step, y_step; /* tiles; steps of a along ny, of y along na */
    float *y;
    const float *a;
};

__global__ void __launch_bounds__(EDGE *DOWN) tiles_kernel(const tiles_job j) {
    __shared__ float tile[EDGE][EDGE + 1]; /* one more: a column lies in 32 different banks */
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

void copy_tiles(const k_loop *l, int dense, float *y, const float *a) {
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
    tiles_job j;
    j.outers = k_places_make(&j.outer, nd, size, stride);
    j.ny = l->size[last];
    j.na = l->size[dense];
    j.down = (j.ny + EDGE - 1) / EDGE;
    j.across = (j.na + EDGE - 1) / EDGE;
    j.a_step = l->sa[last];
    j.y_step = l->sy[dense];
    j.y = y;
    j.a = a;
    int64_t tiles = j.outers * j.down * j.across;
    if (tiles) K_LAUNCH(tiles_kernel, k_blocks(tiles, 1), dim3(EDGE, DOWN), j);
}

#define SLOT(name)                                                                                 \
    void name##_loop(const k_loop *l, float *y, const float *a, const float *b, const float *c,    \
                     const float p[2]) {                                                           \
        run<name##_op>(l, y, a, b, c, p);                                                          \
    }
K_POINTWISE(SLOT)

void copy_any(const k_loop *l, float *y, const float *a, const float *b, const float *c,
              const float p[2]) {
    int dense = dense_in_a(l);
    if (dense >= 0)
        copy_tiles(l, dense, y, a);
    else
        copy_loop(l, y, a, b, c, p);
}
} // namespace

#define SET(name) t->name = name##_loop;
extern "C" void k_pointwise_cuda(k_table *t) {
    K_POINTWISE(SET)
    t->copy = copy_any;
}
