/* norm_cuda.cu - batch and group normalization, forward and backward, of activation matrices.
 *
 * Contract: the slots in kernels.h; x has rows of ldx elements, y and dy of ldy, dx of lddx. Those
 * of batch norm may be bf16, as T says; nothing else is. Memory-bound. Bytes an element: batch
 * statistics 4, forward 8, backward 20 (x and dy are read twice, dx written), half as many where
 * they are bf16, 16 of them an access (8 of bf16 whose rows begin or end within 16); group norm 8
 * and 12 where a group stays in the cache between its two walks, 12 and 20 where not, and 8 more
 * for dgamma and dbeta. A group of fewer than four channels wastes most of each line.
 *
 * Sums over many rows are cut into slices of rows, by the shape alone; each slice leaves its part
 * in scratch memory, and a second kernel adds the parts up in their order, in double.
 *
 * Surprising: moments need one walk and cancel nothing. A thread takes mean and squares of four
 * values at once, in registers, and joins them to what it has by Chan's formula. */
#include "team_cuda.h"

namespace {

enum { ROWS = 4, MERGE_X = 8, MERGE_Y = 64, SMALL_GROUP = 32 };

/* ------------------------------------------------------------------------------ sums of columns */

/* How the rows are cut: `count` slices of `rows`, the last one shorter. */
struct slices {
    dim3 block, grid;
    int64_t rows, count;
};

slices cut_rows(const k_norm *s) {
    dim3 block = k_column_block(s->c);
    int64_t x = k_column_blocks(block, s->c), each = (int64_t)block.y * ROWS * 2;
    int64_t count = (s->rows + each - 1) / each, most = 132 * 4 / x;
    if (count > most) count = most;
    if (count < 1) count = 1;
    int64_t rows = (s->rows + count - 1) / count;
    count = rows ? (s->rows + rows - 1) / rows : 1;
    return {block, dim3((unsigned)x, (unsigned)count), rows, count};
}

/* Two numbers a channel from each slice, and two more for sums that the caller does not want. */
int64_t norm_scratch(const k_norm *s) {
    if (!s->c) return 0;
    return (cut_rows(s).count + 1) * 2 * s->c * (int64_t)sizeof(float);
}

/* The sum over the block's y, in each of its threads. */
template <class W, class T> __device__ inline void column_sum(T (&v)[W::own]) {
    __shared__ T sum[W::own][W::threads];
    int me = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads(); /* those of the last sum have been read */
    for (int k = 0; k < W::own; k++) sum[k][me] = v[k];
    for (unsigned half = blockDim.y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y >= half) continue;
        for (int k = 0; k < W::own; k++) sum[k][me] += sum[k][me + half * blockDim.x];
    }
    __syncthreads();
    for (int k = 0; k < W::own; k++) v[k] = sum[k][threadIdx.x];
}

/* The same for the blocks that merge slices, in double. */
__device__ inline double merged_sum(double v) {
    __shared__ double sum[MERGE_Y][MERGE_X];
    __syncthreads();
    sum[threadIdx.y][threadIdx.x] = v;
    for (unsigned half = MERGE_Y / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
            sum[threadIdx.y][threadIdx.x] += sum[threadIdx.y + half][threadIdx.x];
    }
    __syncthreads();
    return sum[0][threadIdx.x];
}

dim3 merge_grid(int64_t c, int arrays) {
    return dim3((unsigned)((c + MERGE_X - 1) / MERGE_X), (unsigned)arrays);
}

/* ------------------------------------------------------------------------ statistics of a batch */

/* Of a thread's channels: how many values, their mean and the squares around it, all of them
 * counted from `base`, the first row of the matrix: a mean far from 0 would cost digits in every
 * step. */
template <int V> struct moments { float n, mean[V], square[V], base[V]; };

/* Joins the moments of U rows, `step` elements apart, to m. */
template <class W, int U, class T>
__device__ inline void join_rows(moments<W::own> *m, const T *x, int64_t step, int64_t n) {
    float v[U][W::own];
    for (int u = 0; u < U; u++) k_load<W::whole>(x + u * step, n, v[u]);
    float total = m->n + U, share = U / total, weight = m->n * share;
    for (int k = 0; k < W::own; k++) {
        float mean = 0, square = 0;
        for (int u = 0; u < U; u++) mean += v[u][k] -= m->base[k];
        mean /= U;
        for (int u = 0; u < U; u++) square += (v[u][k] - mean) * (v[u][k] - mean);
        float d = mean - m->mean[k];
        m->mean[k] += d * share;
        m->square[k] += square + d * d * weight;
    }
    m->n = total;
}

/* The mean, counted from the first row, and the squares of each slice; of the `whole` matrix mean
 * and variance. */
template <class W, class T>
__global__ void __launch_bounds__(W::threads)
    stats_kernel(k_norm s, int64_t slice, bool whole, const T *x, float *mean, float *square) {
    int64_t c = k_channel(W::own), n = s.c - c, step = blockDim.y;
    int64_t begin = blockIdx.y * slice, end = min(begin + slice, s.rows);
    moments<W::own> m = {};
    if (n > 0 && begin < end) {
        int64_t r = begin + threadIdx.y;
        x += c;
        k_load<W::whole>(x, n, m.base);
        for (; r + (ROWS - 1) * step < end; r += ROWS * step)
            join_rows<W, ROWS>(&m, x + r * s.ldx, step * s.ldx, n);
        for (; r < end; r += step) join_rows<W, 1>(&m, x + r * s.ldx, 0, n);
    }
    double sum[W::own]; /* of numbers as large as the base, where the mean may be close to 0 */
    float around[W::own], rows = (float)(end - begin);
    for (int k = 0; k < W::own; k++) sum[k] = (double)m.n * m.mean[k];
    column_sum<W>(sum);
    for (int k = 0; k < W::own; k++) {
        sum[k] /= rows;
        float d = m.mean[k] - (float)sum[k];
        around[k] = m.n > 0 ? m.square[k] + m.n * d * d : 0;
    }
    column_sum<W>(around);
    if (threadIdx.y) return;
    for (int k = 0; k < W::own && k < n; k++) {
        mean[blockIdx.y * s.c + c + k] = (float)(whole ? m.base[k] + sum[k] : sum[k]);
        square[blockIdx.y * s.c + c + k] = whole ? around[k] / rows : around[k];
    }
}

template <class T>
__global__ void __launch_bounds__(MERGE_X *MERGE_Y)
    merge_stats_kernel(k_norm s, int64_t slice, int64_t slices, const T *x, const float *means,
                       const float *squares, float *mean, float *var) {
    int64_t c = (int64_t)blockIdx.x * MERGE_X + threadIdx.x;
    bool here = c < s.c;
    double sum = 0, square = 0;
    for (int64_t i = threadIdx.y; here && i < slices; i += MERGE_Y)
        sum += (double)min(slice, s.rows - i * slice) * means[i * s.c + c];
    double centre = merged_sum(sum) / (double)s.rows;
    for (int64_t i = threadIdx.y; here && i < slices; i += MERGE_Y) {
        double d = means[i * s.c + c] - centre;
        square += squares[i * s.c + c] + (double)min(slice, s.rows - i * slice) * d * d;
    }
    square = merged_sum(square);
    if (!here || threadIdx.y) return;
    mean[c] = (float)(k_wide(x[c]) + centre);
    var[c] = (float)(square / (double)s.rows);
}

template <class T>
void batch_stats(const k_norm *s, const float *x_, float *mean, float *var, void *scratch) {
    if (!s->c) return;
    const T *x = (const T *)x_;
    slices cut = cut_rows(s);
    bool whole = cut.count == 1;
    float *means = whole ? mean : (float *)scratch;
    float *squares = whole ? var : means + cut.count * s->c;
    k_with_width<T>(k_at_once(x, s->ldx, s->c), [&](auto width) {
        K_LAUNCH((stats_kernel<decltype(width), T>), cut.grid, k_column_threads(cut.block, width),
                 *s, cut.rows, whole, x, means, squares);
    });
    if (whole) return;
    K_LAUNCH(merge_stats_kernel<T>, merge_grid(s->c, 1), dim3(MERGE_X, MERGE_Y), *s, cut.rows,
             cut.count, x, means, squares, mean, var);
}

/* ----------------------------------------------------------------------------------- batch norm */

/* The values of a thread's channels in a vector that may be absent. */
template <int V>
__device__ inline void load_channels(const float *p, int64_t c, int64_t n, float otherwise,
                                     float (&v)[V]) {
    for (int k = 0; k < V; k++) v[k] = p && k < n ? p[c + k] : otherwise;
}

/* RELU: with ReLU behind it, after the sum with `add` where that is given. NaN stays. */
template <class W, bool RELU, class T>
__global__ void __launch_bounds__(W::threads)
    batch_norm_kernel(k_norm s, const T *x, const float *mean, const float *rstd,
                      const float *gamma, const float *beta, const T *add, int64_t ldadd, T *y) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c, step = (int64_t)gridDim.y * blockDim.y;
    if (n <= 0) return;
    float m[V], scale[V], g[V], shift[V];
    load_channels(mean, c, n, 0, m);
    load_channels(rstd, c, n, 0, scale);
    load_channels(gamma, c, n, 1, g);
    load_channels(beta, c, n, 0, shift);
    for (int k = 0; k < V; k++) scale[k] *= g[k];
    for (int64_t r = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; r < s.rows; r += 2 * step) {
        float v[2][V] = {}, other[2][V] = {}; /* two rows under way at once */
        for (int u = 0; u < 2; u++) {
            if (r + u * step >= s.rows) continue;
            k_load<W::whole>(x + (r + u * step) * s.ldx + c, n, v[u]);
            if (RELU && add) k_load<W::whole>(add + (r + u * step) * ldadd + c, n, other[u]);
        }
        for (int u = 0; u < 2; u++) {
            if (r + u * step >= s.rows) continue;
            for (int k = 0; k < V; k++) {
                v[u][k] = (v[u][k] - m[k]) * scale[k] + shift[k];
                if (RELU && add) v[u][k] += other[u][k];
                if (RELU && v[u][k] < 0) v[u][k] = 0;
            }
            k_store<W::whole>(y + (r + u * step) * s.ldy + c, n, v[u]);
        }
    }
}

template <class T, bool RELU>
void launch_norm(const k_norm *s, const T *x, const float *mean, const float *rstd,
                 const float *gamma, const float *beta, const T *add, int64_t ldadd, T *y) {
    if (!s->c || !s->rows) return;
    dim3 block = k_column_block(s->c), grid = k_column_grid(block, s->c, s->rows);
    int at_once = min(k_at_once(x, s->ldx, s->c), k_at_once(y, s->ldy, s->c));
    if (add) at_once = min(at_once, k_at_once(add, ldadd, s->c));
    k_with_width<T>(at_once, [&](auto width) {
        K_LAUNCH((batch_norm_kernel<decltype(width), RELU, T>), grid,
                 k_column_threads(block, width), *s, x, mean, rstd, gamma, beta, add, ldadd, y);
    });
}

template <class T>
void batch_norm(const k_norm *s, const float *x, const float *mean, const float *rstd,
                const float *gamma, const float *beta, float *y) {
    launch_norm<T, false>(s, (const T *)x, mean, rstd, gamma, beta, 0, 0, (T *)y);
}

/* Reads x and the sum's other part once and writes y once: 8 or 12 bytes an element, where one op
 * after the other moves 16 or 28. */
template <class T>
void batch_norm_relu(const k_norm *s, const float *x, const float *mean, const float *rstd,
                     const float *gamma, const float *beta, const float *add, int64_t ldadd,
                     float *y) {
    launch_norm<T, true>(s, (const T *)x, mean, rstd, gamma, beta, (const T *)add, ldadd, (T *)y);
}

/* -------------------------------------------------------------------------- sums for the gradients
 * dbeta = sum dy, dgamma = sum dy xhat over all rows. Mean and rstd are those of the channel, or,
 * GROUPED, of the row's sample and the channel's group. */

/* Mean and rstd of a thread's channels; GROUPED: in the sample of row r. */
template <bool GROUPED, int V>
__device__ inline void load_moments(const k_norm *s, const float *mean, const float *rstd,
                                    int64_t c, int64_t n, int64_t r, float (&m)[V],
                                    float (&scale)[V]) {
    if constexpr (GROUPED) {
        int64_t first = r / s->pixels * s->groups, width = s->c / s->groups;
        for (int k = 0; k < V; k++) {
            int64_t i = first + min(c + k, s->c - 1) / width;
            m[k] = mean[i];
            scale[k] = rstd[i];
        }
    } else {
        load_channels(mean, c, n, 0, m);
        load_channels(rstd, c, n, 0, scale);
    }
}

template <class W, bool GROUPED, class T>
__global__ void __launch_bounds__(W::threads)
    grad_sums_kernel(k_norm s, int64_t slice, const T *x, const T *dy, const float *mean,
                     const float *rstd, float *dgamma, float *dbeta) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c, step = blockDim.y;
    int64_t begin = blockIdx.y * slice, end = min(begin + slice, s.rows);
    float dot[V] = {}, sum[V] = {}, m[V], scale[V];
    if (n > 0 && !GROUPED) load_moments<GROUPED>(&s, mean, rstd, c, n, 0, m, scale);
    for (int64_t r = begin + threadIdx.y; n > 0 && r < end; r += 2 * step) {
        float a[2][V] = {}, b[2][V] = {}; /* two rows under way at once */
        for (int u = 0; u < 2; u++) {
            if (r + u * step >= end) continue;
            k_load<W::whole>(x + (r + u * step) * s.ldx + c, n, a[u]);
            k_load<W::whole>(dy + (r + u * step) * s.ldy + c, n, b[u]);
        }
        for (int u = 0; u < 2; u++) {
            if (r + u * step >= end) continue;
            if (GROUPED) load_moments<GROUPED>(&s, mean, rstd, c, n, r + u * step, m, scale);
            for (int k = 0; k < V; k++) {
                sum[k] += b[u][k];
                dot[k] += b[u][k] * ((a[u][k] - m[k]) * scale[k]);
            }
        }
    }
    column_sum<W>(dot);
    column_sum<W>(sum);
    if (threadIdx.y) return;
    for (int k = 0; k < V && k < n; k++) {
        dgamma[blockIdx.y * s.c + c + k] = dot[k];
        dbeta[blockIdx.y * s.c + c + k] = sum[k];
    }
}

/* y[blockIdx.y][c] = the sum of the slices of part[blockIdx.y]. */
__global__ void __launch_bounds__(MERGE_X *MERGE_Y)
    merge_sums_kernel(int64_t channels, int64_t slices, const float *part, float *y0, float *y1) {
    int64_t c = (int64_t)blockIdx.x * MERGE_X + threadIdx.x;
    bool here = c < channels;
    float *y = blockIdx.y ? y1 : y0;
    double sum = 0;
    part += blockIdx.y * slices * channels;
    for (int64_t i = threadIdx.y; here && i < slices; i += MERGE_Y) sum += part[i * channels + c];
    sum = merged_sum(sum);
    if (here && !threadIdx.y) y[c] = (float)sum;
}

/* dgamma and dbeta; where those are NULL they become pieces of the scratch memory. */
template <bool GROUPED, class T>
void grad_sums(const k_norm *s, const T *x, const T *dy, const float *mean, const float *rstd,
               float **dgamma, float **dbeta, void *scratch) {
    slices cut = cut_rows(s);
    float *part = (float *)scratch, *spare = part + cut.count * 2 * s->c;
    if (!*dgamma) *dgamma = spare;
    if (!*dbeta) *dbeta = spare + s->c;
    bool whole = cut.count == 1;
    float *dots = whole ? *dgamma : part, *sums = whole ? *dbeta : part + cut.count * s->c;
    int at_once = min(k_at_once(x, s->ldx, s->c), k_at_once(dy, s->ldy, s->c));
    k_with_width<T>(at_once, [&](auto width) {
        K_LAUNCH((grad_sums_kernel<decltype(width), GROUPED, T>), cut.grid,
                 k_column_threads(cut.block, width), *s, cut.rows, x, dy, mean, rstd, dots, sums);
    });
    if (whole) return;
    K_LAUNCH(merge_sums_kernel, merge_grid(s->c, 2), dim3(MERGE_X, MERGE_Y), s->c, cut.count, part,
             *dgamma, *dbeta);
}

/* ------------------------------------------------------------------------- batch norm, backward */

/* dx = gamma rstd (dy - dbeta / rows - xhat dgamma / rows); sums that are NULL are 0. */
template <class W, class T>
__global__ void __launch_bounds__(W::threads)
    batch_norm_dx_kernel(k_norm s, const T *x, const T *dy, const float *mean, const float *rstd,
                         const float *gamma, const float *dgamma, const float *dbeta, T *dx) {
    constexpr int V = W::own;
    int64_t c = k_channel(V), n = s.c - c, step = (int64_t)gridDim.y * blockDim.y;
    if (n <= 0) return;
    float m[V], scale[V], g[V], slope[V], shift[V], rows = (float)s.rows;
    load_channels(mean, c, n, 0, m);
    load_channels(rstd, c, n, 0, scale);
    load_channels(gamma, c, n, 1, g);
    load_channels(dgamma, c, n, 0, slope);
    load_channels(dbeta, c, n, 0, shift);
    for (int k = 0; k < V; k++) {
        slope[k] = scale[k] * slope[k] / rows;
        shift[k] /= rows;
        scale[k] *= g[k];
    }
    for (int64_t r = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; r < s.rows; r += step) {
        float a[V] = {}, b[V];
        if (dbeta) k_load<W::whole>(x + r * s.ldx + c, n, a);
        k_load<W::whole>(dy + r * s.ldy + c, n, b);
        if (dbeta)
            for (int k = 0; k < V; k++) b[k] -= shift[k] + (a[k] - m[k]) * slope[k];
        for (int k = 0; k < V; k++) b[k] *= scale[k];
        k_store<W::whole>(dx + r * s.lddx + c, n, b);
    }
}

template <class T>
void batch_norm_grad(const k_norm *s, const float *x_, const float *dy_, const float *mean,
                     const float *rstd, const float *gamma, int training, float *dx_, float *dgamma,
                     float *dbeta, void *scratch) {
    if (!s->c) return;
    const T *x = (const T *)x_, *dy = (const T *)dy_;
    T *dx = (T *)dx_;
    if (training || dgamma || dbeta)
        grad_sums<false>(s, x, dy, mean, rstd, &dgamma, &dbeta, scratch);
    if (!training) dgamma = dbeta = 0;
    if (!dx || !s->rows) return;
    dim3 block = k_column_block(s->c), grid = k_column_grid(block, s->c, s->rows);
    int at_once = min(min(k_at_once(x, s->ldx, s->c), k_at_once(dy, s->ldy, s->c)),
                      k_at_once(dx, s->lddx, s->c));
    k_with_width<T>(at_once, [&](auto width) {
        K_LAUNCH((batch_norm_dx_kernel<decltype(width), T>), grid, k_column_threads(block, width),
                 *s, x, dy, mean, rstd, gamma, dgamma, dbeta, dx);
    });
}

/* -------------------------------------------------------------------------------------- group norm
 * A team a group. Its threads stand x by y: x over the group's channels, y over the pixels. */

struct group_walk {
    int width, x; /* threads of a team, and of those side by side */
};

group_walk walk_of(const k_norm *s) {
    int64_t quads = (s->c / s->groups + 3) / 4;
    group_walk w = {k_team_width(quads * s->pixels), 1};
    while (w.x < w.width && w.x < quads) w.x *= 2;
    return w;
}

int64_t group_count(const k_norm *s) { return s->rows / s->pixels * s->groups; }
int64_t group_size(const k_norm *s) { return s->pixels * (s->c / s->groups); }

/* Where this thread stands in group `at` of the loop over groups. */
struct group_place {
    int64_t writes; /* the group, in the one thread that writes what belongs to it; else -1 */
    int64_t row_begin, row, row_end, row_step; /* of the matrix */
    int64_t channel, width, first, step; /* the group's first channel and width; those of it */
};

__device__ inline group_place place_of(const k_norm *s, group_walk w, int64_t group) {
    int lane = threadIdx.x % w.width;
    bool here = group < s->rows / s->pixels * s->groups;
    int64_t sample = here ? group / s->groups : 0, width = s->c / s->groups;
    group_place p;
    p.writes = here && !lane ? group : -1;
    p.row_begin = sample * s->pixels;
    p.row = p.row_begin + lane / w.x;
    p.row_end = here ? p.row_begin + s->pixels : 0;
    p.row_step = w.width / w.x;
    p.channel = here ? group % s->groups * width : 0;
    p.width = width;
    p.first = lane % w.x * 4;
    p.step = w.x * 4;
    return p;
}

/* Row r, channels c .. c + 3 of the matrix, of which the first n are in the group. */
#define FOR_PLACE(p, r, c, n)                                                                      \
    for (int64_t r = (p).row; r < (p).row_end; r += (p).row_step)                                  \
        for (int64_t at = (p).first, c, n; c = (p).channel + at, n = (p).width - at, n > 0;        \
             at += (p).step)

/* Mean and squares of the first n of four values, counted from base, joined to those of `count`
 * before. */
template <class real>
__device__ inline void join_four(const float v[4], int64_t n, real base, real *count, real *mean,
                                 real *square) {
    real values = n < 4 ? (real)n : 4, centre = 0, around = 0;
    for (int k = 0; k < 4; k++) centre += k < n ? v[k] - base : 0;
    centre /= values;
    for (int k = 0; k < 4; k++) {
        real d = v[k] - base - centre;
        around += k < n ? d * d : 0;
    }
    real total = *count + values, share = values / total, d = centre - *mean;
    *mean += d * share;
    *square += around + d * d * *count * share;
    *count = total;
}

template <bool ALIGNED, class real>
__global__ void __launch_bounds__(sizeof(real) == 8 ? 256 : 1024)
    group_norm_kernel(k_norm s, group_walk w, const float *x, const float *gamma, const float *beta,
                      float eps, float *y, float *mean, float *rstd) {
    int64_t count = s.rows / s.pixels * s.groups;
    real size = (real)(s.pixels * (s.c / s.groups));
    for (int64_t i = k_team_first(w.width); i < count; i += k_team_stride(w.width)) {
        group_place p = place_of(&s, w, i + threadIdx.x / w.width);
        real values = 0, m = 0, square = 0, base = x[p.row_begin * s.ldx + p.channel];
        float v[4];
        FOR_PLACE(p, r, c, n) {
            k_load<ALIGNED>(x + r * s.ldx + c, n, v);
            join_four(v, n, base, &values, &m, &square);
        }
        double exact = k_team_sum((double)values * m, w.width) / size; /* as in stats_kernel */
        real centre = (real)exact, d = m - centre;
        square = k_team_sum(values > 0 ? square + values * d * d : 0, w.width);
        real scale = 1 / sqrt(square / size + eps);
        FOR_PLACE(p, r, c, n) {
            float g[4], b[4];
            k_load<ALIGNED>(x + r * s.ldx + c, n, v);
            load_channels(gamma, c, n, 1, g);
            load_channels(beta, c, n, 0, b);
            for (int k = 0; k < 4; k++)
                v[k] = (float)((v[k] - base - centre) * scale * g[k] + b[k]);
            k_store<ALIGNED>(y + r * s.ldy + c, n, v);
        }
        if (p.writes < 0) continue;
        mean[p.writes] = (float)(base + exact);
        rstd[p.writes] = (float)scale;
    }
}

/* The kernel that fits: in double for groups of a few values, which may lie so close together, or
 * cancel so far (the gradient of a group of two is what eps did to it), that float leaves no
 * digits. */
#define LAUNCH_GROUPS(kernel, s, aligned, ...)                                                     \
    do {                                                                                           \
        group_walk w = walk_of(s);                                                                 \
        unsigned grid = k_team_blocks(group_count(s), w.width), block = k_team_block(w.width);     \
        if (group_size(s) <= SMALL_GROUP)                                                          \
            K_LAUNCH((kernel<false, double>), grid, block, *s, w, __VA_ARGS__);                    \
        else if (aligned)                                                                          \
            K_LAUNCH((kernel<true, float>), grid, block, *s, w, __VA_ARGS__);                      \
        else                                                                                       \
            K_LAUNCH((kernel<false, float>), grid, block, *s, w, __VA_ARGS__);                     \
    } while (0)

void group_norm(const k_norm *s, const float *x, const float *gamma, const float *beta, float eps,
                float *y, float *mean, float *rstd) {
    if (!group_size(s) || !group_count(s)) return;
    int64_t width = s->c / s->groups;
    bool aligned = k_aligned(x, s->ldx, width) && k_aligned(y, s->ldy, width);
    LAUNCH_GROUPS(group_norm_kernel, s, aligned, x, gamma, beta, eps, y, mean, rstd);
}

/* With g = dy gamma: dx = rstd (g - mean(g) - xhat mean(g xhat)), means over the group. */
template <bool ALIGNED, class real>
__global__ void __launch_bounds__(sizeof(real) == 8 ? 256 : 1024)
    group_norm_dx_kernel(k_norm s, group_walk w, const float *x, const float *dy, const float *mean,
                         const float *rstd, const float *gamma, float *dx) {
    int64_t count = s.rows / s.pixels * s.groups;
    real size = (real)(s.pixels * (s.c / s.groups));
    for (int64_t i = k_team_first(w.width); i < count; i += k_team_stride(w.width)) {
        int64_t group = min(i + threadIdx.x / w.width, count - 1);
        group_place p = place_of(&s, w, i + threadIdx.x / w.width);
        real m = mean[group], scale = rstd[group], sum = 0, dot = 0;
        float a[4], b[4], g[4];
        FOR_PLACE(p, r, c, n) {
            k_load<ALIGNED>(x + r * s.ldx + c, n, a);
            k_load<ALIGNED>(dy + r * s.ldy + c, n, b);
            load_channels(gamma, c, n, 1, g);
            for (int k = 0; k < 4; k++) {
                sum += (real)b[k] * g[k];
                dot += (real)b[k] * g[k] * ((a[k] - m) * scale);
            }
        }
        sum = k_team_sum(sum, w.width) / size;
        dot = k_team_sum(dot, w.width) / size;
        FOR_PLACE(p, r, c, n) {
            k_load<ALIGNED>(x + r * s.ldx + c, n, a);
            k_load<ALIGNED>(dy + r * s.ldy + c, n, b);
            load_channels(gamma, c, n, 1, g);
            for (int k = 0; k < 4; k++)
                b[k] = (float)(scale * ((real)b[k] * g[k] - sum - (a[k] - m) * scale * dot));
            k_store<ALIGNED>(dx + r * s.lddx + c, n, b);
        }
    }
}

void group_norm_grad(const k_norm *s, const float *x, const float *dy, const float *mean,
                     const float *rstd, const float *gamma, float *dx, float *dgamma, float *dbeta,
                     void *scratch) {
    if (!s->c) return;
    if (dgamma || dbeta) grad_sums<true>(s, x, dy, mean, rstd, &dgamma, &dbeta, scratch);
    if (!dx || !group_size(s) || !group_count(s)) return;
    int64_t width = s->c / s->groups;
    bool aligned = k_aligned(x, s->ldx, width) && k_aligned(dy, s->ldy, width) &&
                   k_aligned(dx, s->lddx, width);
    LAUNCH_GROUPS(group_norm_dx_kernel, s, aligned, x, dy, mean, rstd, gamma, dx);
}

/* -------------------------------------------------------------------- the statistics' small ops */

__global__ void rstd_kernel(int64_t n, const float *var, float eps, float *y) {
    for (int64_t i = k_first(); i < n; i += k_stride()) {
        float v = var[i] + eps;
        y[i] = sqrtf(v) / v;
    }
}

void rstd(int64_t n, const float *var, float eps, float *y) {
    if (n) K_LAUNCH(rstd_kernel, k_blocks(n, 256), 256, n, var, eps, y);
}

__global__ void running_kernel(int64_t n, float keep, float take, const float *x, int64_t stride,
                               float *y) {
    for (int64_t i = k_first(); i < n; i += k_stride())
        y[i * stride] = keep * y[i * stride] + take * x[i];
}

void running(int64_t n, float keep, float take, const float *x, int64_t stride, float *y) {
    if (n) K_LAUNCH(running_kernel, k_blocks(n, 256), 256, n, keep, take, x, stride, y);
}

} // namespace

extern "C" void k_norm_cuda(k_table *t) {
    t->batch_stats = batch_stats<float>;
    t->batch_norm = batch_norm<float>;
    t->batch_norm_relu = batch_norm_relu<float>;
    t->batch_norm_grad = batch_norm_grad<float>;
    t->group_norm = group_norm;
    t->group_norm_grad = group_norm_grad;
    t->norm_scratch = norm_scratch;
    t->rstd = rstd;
    t->running = running;
}

extern "C" void k_norm_narrow_cuda(k_table *t) {
    t->batch_stats = batch_stats<k_bf16>;
    t->batch_norm = batch_norm<k_bf16>;
    t->batch_norm_relu = batch_norm_relu<k_bf16>;
    t->batch_norm_grad = batch_norm_grad<k_bf16>;
}
