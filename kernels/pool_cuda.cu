/* pool_cuda.cu - max and average pooling of channels-last pictures.
 *
 * Contract: kernels.h; pool_generic.c and pool_window.h are the truth about NaN, ties and windows.
 * A thread takes four channels of a pixel, or eight of bf16: forward an output and its window,
 * backward an input and the windows that cover it, so every result is written once and nothing is
 * added atomically. Memory-bound: x and y are moved once (neighbouring windows meet in the cache),
 * 4 bytes an element or 2 of bf16, 16 of them an access (8 of bf16 whose rows begin or end within
 * 16), and a byte an output for the index of a maximum. Average windows of many pixels are shared
 * by a block's threads. Sums are float32, rounded once if the result lies there as bf16.
 *
 * Surprising: a position costs more than its window if it is divided up in 64 bits, so sizes are
 * counted in 32 where they fit, and divided by multiplication. */
#include "team_cuda.h"

namespace {

enum { MANY = 32 /* pixels of a window that a block works on together */ };

/* --------------------------------------------------------------------------- positions and windows
 * I: int where every count stays below 2^30, otherwise int64_t. */

/* Division of what is not negative by d. The multiplier is 33 bits wide, its highest one left away:
 * Granlund and Montgomery, Division by Invariant Integers (1994). */
template <class I> struct over;
template <> struct over<int> {
    unsigned multiplier;
    int shift;
    explicit over(int64_t d) : multiplier(1), shift(0) {
        while ((int64_t)1 << shift < d) shift++;
        if (d > 0) multiplier = (unsigned)(((((uint64_t)1 << shift) - d) << 32) / d + 1);
    }
    __device__ int operator()(int n) const {
        return (int)((__umulhi(multiplier, (unsigned)n) + (unsigned)n) >> shift);
    }
};
template <> struct over<int64_t> {
    int64_t d;
    explicit over(int64_t d) : d(d) {}
    __device__ int64_t operator()(int64_t n) const { return n / d; }
};

/* One axis: `in` input pixels, `out` windows of k (0: adaptive) at stride s with padding p. */
template <class I> struct axis {
    I in, out, k, s, p;
    over<I> over_in, over_out, over_s;
    axis(int64_t in, int64_t out, int64_t k, int64_t s, int64_t p)
        : in((I)in), out((I)out), k((I)k), s((I)s), p((I)p), over_in(in), over_out(out), over_s(s) {
    }

    /* the real pixels of window o */
    __device__ I begin(I o) const { return k ? max(o * s - p, (I)0) : over_out(o * in); }
    __device__ I end(I o) const {
        return k ? min(o * s - p + k, in) : over_out((o + 1) * in + out - 1);
    }
    /* the windows that cover pixel i */
    __device__ I first(I i) const {
        return !k ? over_in(i * out) : i + p < k ? (I)0 : over_s(i + p - k + s);
    }
    __device__ I last(I i) const {
        return !k ? over_in((i + 1) * out + in - 1) : min(over_s(i + p) + 1, out);
    }
    /* the tap of window o that is pixel i */
    __device__ I tap(I o, I i) const { return i - o * s + p; }
};

template <class I> struct pool {
    I in, out; /* pixels of all pictures */
    int64_t c, ldx, ldy;
    axis<I> y, x;
    explicit pool(const k_pool *s)
        : in((I)(s->n * s->h * s->w)), out((I)(s->n * s->oh * s->ow)), c(s->c), ldx(s->ldx),
          ldy(s->ldy), y(s->h, s->oh, s->kh, s->sh, s->ph), x(s->w, s->ow, s->kw, s->sw, s->pw) {}

    /* What an average over window (oy, ox) is divided by. */
    __device__ float area(I oy, I ox) const {
        if (y.k) return (float)((int64_t)y.k * x.k);
        return (float)((int64_t)(y.end(oy) - y.begin(oy)) * (x.end(ox) - x.begin(ox)));
    }
};

/* Pixel i of pictures whose sizes are those of the axes' inputs or outputs. */
template <class I> struct place { I n, y, x; };
template <class I> __device__ inline place<I> input_place(const pool<I> &s, I i) {
    I row = s.x.over_in(i), n = s.y.over_in(row);
    return {n, row - n * s.y.in, i - row * s.x.in};
}
template <class I> __device__ inline place<I> output_place(const pool<I> &s, I o) {
    I row = s.x.over_out(o), n = s.y.over_out(row);
    return {n, row - n * s.y.out, o - row * s.x.out};
}

/* Does all that the kernels count fit into 30 bits? */
bool is_small(const k_pool *s) {
    const int64_t limit = 1 << 30, most[] = {s->n * s->h * s->w,       s->n * s->oh * s->ow,
                                             (s->h + 1) * (s->oh + 1), (s->w + 1) * (s->ow + 1),
                                             s->kh + s->sh + s->ph,    s->kw + s->sw + s->pw,
                                             s->oh * s->sh + s->kh,    s->ow * s->sw + s->kw};
    for (int64_t m : most)
        if (m >= limit) return false;
    return true;
}

#define FOR_PIXELS(I, i, count)                                                                    \
    for (I i = (I)(blockIdx.y * blockDim.y + threadIdx.y); i < (count);                            \
         i += (I)(gridDim.y * blockDim.y))

/* K_LAUNCH of kernel<W, I, T> for k_pool *s, W being the width of `at_once` and T the elements of x
 * and y; what is as large as that is moved one by one. */
#define LAUNCH_POOL(kernel, s, at_once, grid, block, ...)                                          \
    do {                                                                                           \
        if (!is_small(s)) {                                                                        \
            K_LAUNCH((kernel<k_width<1>, int64_t, T>), grid, block, pool<int64_t>(s),              \
                     __VA_ARGS__);                                                                 \
            break;                                                                                 \
        }                                                                                          \
        k_with_width<T>(at_once, [&](auto width) {                                                 \
            K_LAUNCH((kernel<decltype(width), int, T>), grid, k_column_threads(block, width),      \
                     pool<int>(s), __VA_ARGS__);                                                   \
        });                                                                                        \
    } while (0)

/* -------------------------------------------------------------------------------------- maximum */

/* Four taps of a byte each in a word. */
template <bool WHOLE, int V>
__device__ inline void store_taps(uint8_t *p, int64_t n, const int (&tap)[V]) {
    if constexpr (WHOLE) {
        k_pack<unsigned, V / 4> words = {};
        for (int k = 0; k < V; k++) words.v[k / 4] |= (unsigned)tap[k] << k % 4 * 8;
        *(k_pack<unsigned, V / 4> *)p = words;
    } else {
        for (int k = 0; k < V; k++)
            if (k < n) p[k] = (uint8_t)tap[k];
    }
}

template <bool WHOLE, int V>
__device__ inline void load_taps(const uint8_t *p, int64_t n, int (&tap)[V]) {
    if constexpr (WHOLE) {
        k_pack<unsigned, V / 4> words = *(const k_pack<unsigned, V / 4> *)p;
        for (int k = 0; k < V; k++) tap[k] = (int)(words.v[k / 4] >> k % 4 * 8 & 0xff);
    } else {
        for (int k = 0; k < V; k++) tap[k] = k < n ? p[k] : -1;
    }
}

template <class W, class I, class T>
__global__ void __launch_bounds__(W::threads)
    max_pool_kernel(pool<I> s, const T *x, T *y, uint8_t *index) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c;
    if (n <= 0) return;
    FOR_PIXELS(I, o, s.out) {
        place<I> at = output_place(s, o);
        I y_begin = s.y.begin(at.y), y_end = s.y.end(at.y);
        I x_begin = s.x.begin(at.x), x_end = s.x.end(at.x);
        float best[V], v[V];
        int winner[V]; /* the first pixel, unless another one wins */
        for (int k = 0; k < V; k++) {
            best[k] = -INFINITY;
            winner[k] = (int)(s.y.tap(at.y, y_begin) * s.x.k + s.x.tap(at.x, x_begin));
        }
        for (I iy = y_begin; iy < y_end; iy++) {
            const T *row = x + ((int64_t)at.n * s.y.in + iy) * s.x.in * s.ldx + c;
            for (I ix = x_begin; ix < x_end; ix++) {
                int tap = (int)(s.y.tap(at.y, iy) * s.x.k + s.x.tap(at.x, ix));
                k_load<W::whole>(row + ix * s.ldx, n, v);
                for (int k = 0; k < V; k++) {
                    bool wins = v[k] > best[k] || v[k] != v[k];
                    best[k] = wins ? v[k] : best[k];
                    winner[k] = wins ? tap : winner[k];
                }
            }
        }
        k_store<W::whole>(y + o * s.ldy + c, n, best);
        if (index) store_taps<W::whole>(index + o * s.c + c, n, winner);
    }
}

template <class T> void max_pool(const k_pool *s, const float *x_, float *y_, uint8_t *index) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    int64_t out = s->n * s->oh * s->ow;
    if (!s->c || !out) return;
    dim3 block = k_column_block(s->c);
    int at_once = min(min(k_at_once(x, s->ldx, s->c), k_at_once(y, s->ldy, s->c)),
                      k_at_once(index, s->c, s->c));
    LAUNCH_POOL(max_pool_kernel, s, at_once, k_column_grid(block, s->c, out), block, x, y, index);
}

template <class W, class I, class T>
__global__ void __launch_bounds__(W::threads)
    max_pool_grad_kernel(pool<I> s, const T *dy, const uint8_t *index, T *dx) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c;
    if (n <= 0) return;
    FOR_PIXELS(I, i, s.in) {
        place<I> at = input_place(s, i);
        I y_begin = s.y.first(at.y), y_end = s.y.last(at.y);
        I x_begin = s.x.first(at.x), x_end = s.x.last(at.x);
        float sum[V] = {}, v[V];
        for (I oy = y_begin; oy < y_end; oy++) {
            int64_t row = ((int64_t)at.n * s.y.out + oy) * s.x.out;
            for (I ox = x_begin; ox < x_end; ox++) {
                int winner[V], tap = (int)(s.y.tap(oy, at.y) * s.x.k + s.x.tap(ox, at.x));
                load_taps<W::whole>(index + (row + ox) * s.c + c, n, winner);
                k_load<W::whole>(dy + (row + ox) * s.ldy + c, n, v);
                for (int k = 0; k < V; k++) sum[k] += winner[k] == tap ? v[k] : 0;
            }
        }
        k_store<W::whole>(dx + i * s.ldx + c, n, sum);
    }
}

template <class T>
void max_pool_grad(const k_pool *s, const float *dy_, const uint8_t *index, float *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    int64_t in = s->n * s->h * s->w;
    if (!s->c || !in) return;
    dim3 block = k_column_block(s->c);
    int at_once = min(min(k_at_once(dy, s->ldy, s->c), k_at_once(dx, s->ldx, s->c)),
                      k_at_once(index, s->c, s->c));
    LAUNCH_POOL(max_pool_grad_kernel, s, at_once, k_column_grid(block, s->c, in), block, dy, index,
                dx);
}

/* -------------------------------------------------------------------------------------- average */

template <class W, class I, class T>
__global__ void __launch_bounds__(W::threads) avg_pool_kernel(pool<I> s, const T *x, T *y) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c;
    if (n <= 0) return;
    FOR_PIXELS(I, o, s.out) {
        place<I> at = output_place(s, o);
        I y_begin = s.y.begin(at.y), y_end = s.y.end(at.y);
        I x_begin = s.x.begin(at.x), x_end = s.x.end(at.x);
        float sum[V] = {}, v[V], area = s.area(at.y, at.x);
        for (I iy = y_begin; iy < y_end; iy++) {
            const T *row = x + ((int64_t)at.n * s.y.in + iy) * s.x.in * s.ldx + c;
            for (I ix = x_begin; ix < x_end; ix++) {
                k_load<W::whole>(row + ix * s.ldx, n, v);
                for (int k = 0; k < V; k++) sum[k] += v[k];
            }
        }
        for (int k = 0; k < V; k++) sum[k] /= area;
        k_store<W::whole>(y + o * s.ldy + c, n, sum);
    }
}

/* The same for windows of many pixels: the block's y share those of one output. */
template <class W, class I, class T>
__global__ void __launch_bounds__(W::threads) avg_pool_block_kernel(pool<I> s, const T *x, T *y) {
    constexpr int V = W::own;
    __shared__ float part[V][W::threads];
    int64_t c = k_channel(V), n = s.c - c;
    int me = threadIdx.y * blockDim.x + threadIdx.x;
    for (I o = (I)blockIdx.y; o < s.out; o += (I)gridDim.y) {
        place<I> at = output_place(s, o);
        I x_begin = s.x.begin(at.x), width = s.x.end(at.x) - x_begin;
        I height = s.y.end(at.y) - s.y.begin(at.y);
        I first_row = at.n * s.y.in + s.y.begin(at.y);
        /* the window's pixels threadIdx.y, + blockDim.y and so on, without a division for each */
        I iy = (I)threadIdx.y / width, ix = (I)threadIdx.y % width;
        I rows = (I)blockDim.y / width, rest = (I)blockDim.y % width;
        float sum[V] = {}, v[V];
        while (n > 0 && iy < height) {
            k_load<W::whole>(x + ((first_row + iy) * (int64_t)s.x.in + x_begin + ix) * s.ldx + c, n,
                             v);
            for (int k = 0; k < V; k++) sum[k] += v[k];
            iy += rows, ix += rest;
            if (ix >= width) ix -= width, iy++;
        }
        __syncthreads(); /* the last output's parts have been read */
        for (int k = 0; k < V; k++) part[k][me] = sum[k];
        for (unsigned half = blockDim.y / 2; half; half /= 2) {
            __syncthreads();
            if (threadIdx.y >= half) continue;
            for (int k = 0; k < V; k++) part[k][me] += part[k][me + half * blockDim.x];
        }
        if (threadIdx.y || n <= 0) continue;
        for (int k = 0; k < V; k++) sum[k] = part[k][me] / s.area(at.y, at.x);
        k_store<W::whole>(y + o * s.ldy + c, n, sum);
    }
}

template <class T> void avg_pool(const k_pool *s, const float *x_, float *y_) {
    const T *x = (const T *)x_;
    T *y = (T *)y_;
    int64_t out = s->n * s->oh * s->ow;
    if (!s->c || !out) return;
    int64_t kh = s->kh ? s->kh : s->h / s->oh, kw = s->kh ? s->kw : s->w / s->ow;
    dim3 block = k_column_block(s->c);
    int at_once = min(k_at_once(x, s->ldx, s->c), k_at_once(y, s->ldy, s->c));
    if (kh * kw < MANY || kh * kw < block.y) {
        LAUNCH_POOL(avg_pool_kernel, s, at_once, k_column_grid(block, s->c, out), block, x, y);
    } else {
        dim3 grid = k_column_grid(block, s->c, out * block.y);
        LAUNCH_POOL(avg_pool_block_kernel, s, at_once, grid, block, x, y);
    }
}

template <class W, class I, class T>
__global__ void __launch_bounds__(W::threads) avg_pool_grad_kernel(pool<I> s, const T *dy, T *dx) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c;
    if (n <= 0) return;
    FOR_PIXELS(I, i, s.in) {
        place<I> at = input_place(s, i);
        I y_begin = s.y.first(at.y), y_end = s.y.last(at.y);
        I x_begin = s.x.first(at.x), x_end = s.x.last(at.x);
        float sum[V] = {}, v[V];
        for (I oy = y_begin; oy < y_end; oy++) {
            int64_t row = ((int64_t)at.n * s.y.out + oy) * s.x.out;
            for (I ox = x_begin; ox < x_end; ox++) {
                float area = s.area(oy, ox);
                k_load<W::whole>(dy + (row + ox) * s.ldy + c, n, v);
                for (int k = 0; k < V; k++) sum[k] += v[k] / area;
            }
        }
        k_store<W::whole>(dx + i * s.ldx + c, n, sum);
    }
}

template <class T> void avg_pool_grad(const k_pool *s, const float *dy_, float *dx_) {
    const T *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    int64_t in = s->n * s->h * s->w;
    if (!s->c || !in) return;
    dim3 block = k_column_block(s->c);
    int at_once = min(k_at_once(dy, s->ldy, s->c), k_at_once(dx, s->ldx, s->c));
    LAUNCH_POOL(avg_pool_grad_kernel, s, at_once, k_column_grid(block, s->c, in), block, dy, dx);
}

template <class T> void set_slots(k_table *t) {
    t->max_pool = max_pool<T>;
    t->max_pool_grad = max_pool_grad<T>;
    t->avg_pool = avg_pool<T>;
    t->avg_pool_grad = avg_pool_grad<T>;
}

} // namespace

extern "C" void k_pool_cuda(k_table *t) { set_slots<float>(t); }
extern "C" void k_pool_narrow_cuda(k_table *t) { set_slots<k_bf16>(t); }
