/* loss_cuda.cu - softmax, its logarithm and cross entropy over the rows of a dense matrix.
 *
 * Contract: kernels.h. Labels count from 0 and lie in range; the loss is the mean over the rows.
 * A team of threads takes a row: as many as it has fours of channels, a warp at most, or a block
 * where it is longer than 1024. Memory-bound on large matrices, and on the usual ones by the
 * launch. Bytes an element: 8, gradients 12; a row is walked two or three times, but stays in the
 * cache.
 *
 * Surprising: the terms of a row's maximum, which are 1, are counted apart from the others, so that
 * the logarithm of a probability close to 1 keeps its digits, as it does in generic's doubles. */
#include "team_cuda.h"

namespace {

struct matrix {
    int64_t rows, c;
    int width; /* threads of a row */
};

matrix matrix_of(int64_t rows, int64_t c) { return {rows, c, k_team_width((c + 3) / 4)}; }

/* K_LAUNCH_ALIGNED for a matrix m that is not empty. */
#define LAUNCH_ROWS(is, name, m, ...)                                                              \
    do {                                                                                           \
        if ((m).rows && (m).c)                                                                     \
            K_LAUNCH_ALIGNED(is, name, k_team_blocks((m).rows, (m).width),                         \
                             k_team_block((m).width), m, __VA_ARGS__);                             \
    } while (0)

/* For each row that this thread's team takes: `row`, its first element `at` in the matrix, and how
 * many channels there are, none where the row is beyond the last. */
#define FOR_ROWS(m, row, at, count)                                                                \
    for (int64_t base = k_team_first((m).width), row, at, count;                                   \
         row = base + threadIdx.x / (m).width, at = row * (m).c,                                   \
                 count = row < (m).rows ? (m).c : 0, base < (m).rows;                              \
         base += k_team_stride((m).width))

/* The fours of channels of a row that are this thread's: the first of them, i. */
#define FOR_FOURS(m, i, count)                                                                     \
    for (int64_t i = threadIdx.x % (m).width * 4; i < (count); i += (m).width * 4)

/* -------------------------------------------------------------------------------------- softmax */

/* Of a row: its maximum, and the sum of e^(x - max) over the maxima and over all others. A NaN, or
 * an infinity that is the maximum, makes the sums NaN. */
struct row_sums {
    float max, ones, others;
};

template <bool ALIGNED>
__device__ inline row_sums sum_row(const matrix *m, const float *x, int64_t count) {
    float v[4], most = -INFINITY, ones = 0, others = 0;
    FOR_FOURS(*m, i, count) {
        k_load<ALIGNED>(x + i, count - i, v, -INFINITY);
        for (int k = 0; k < 4; k++) most = fmaxf(most, v[k]);
    }
    most = k_team_max(most, m->width);
    FOR_FOURS(*m, i, count) {
        k_load<ALIGNED>(x + i, count - i, v, -INFINITY);
        for (int k = 0; k < 4; k++) {
            float e = expf(v[k] - most);
            if (v[k] == most)
                ones += e;
            else
                others += e;
        }
    }
    return {most, k_team_sum(ones, m->width), k_team_sum(others, m->width)};
}

template <bool ALIGNED>
__global__ void __launch_bounds__(1024) softmax_kernel(matrix m, const float *x, float *y) {
    FOR_ROWS(m, row, at, count) {
        row_sums s = sum_row<ALIGNED>(&m, x + at, count);
        float sum = s.ones + s.others, v[4];
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(x + at + i, count - i, v);
            for (int k = 0; k < 4; k++) v[k] = expf(v[k] - s.max) / sum;
            k_store<ALIGNED>(y + at + i, count - i, v);
        }
    }
}

void softmax(int64_t rows, int64_t c, const float *x, float *y) {
    matrix m = matrix_of(rows, c);
    LAUNCH_ROWS(k_aligned(x, c, c) && k_aligned(y, c, c), softmax_kernel, m, x, y);
}

template <bool ALIGNED>
__global__ void __launch_bounds__(1024) log_softmax_kernel(matrix m, const float *x, float *y) {
    FOR_ROWS(m, row, at, count) {
        row_sums s = sum_row<ALIGNED>(&m, x + at, count);
        float log_sum = log1pf(s.ones - 1 + s.others), v[4];
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(x + at + i, count - i, v);
            for (int k = 0; k < 4; k++) v[k] = v[k] - s.max - log_sum;
            k_store<ALIGNED>(y + at + i, count - i, v);
        }
    }
}

void log_softmax(int64_t rows, int64_t c, const float *x, float *y) {
    matrix m = matrix_of(rows, c);
    LAUNCH_ROWS(k_aligned(x, c, c) && k_aligned(y, c, c), log_softmax_kernel, m, x, y);
}

/* dx = y (dy - sum(dy y)) */
template <bool ALIGNED>
__global__ void __launch_bounds__(1024)
    softmax_grad_kernel(matrix m, const float *y, const float *dy, float *dx) {
    FOR_ROWS(m, row, at, count) {
        float a[4], b[4], dot = 0;
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(y + at + i, count - i, a);
            k_load<ALIGNED>(dy + at + i, count - i, b);
            for (int k = 0; k < 4; k++) dot += a[k] * b[k];
        }
        dot = k_team_sum(dot, m.width);
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(y + at + i, count - i, a);
            k_load<ALIGNED>(dy + at + i, count - i, b);
            for (int k = 0; k < 4; k++) a[k] *= b[k] - dot;
            k_store<ALIGNED>(dx + at + i, count - i, a);
        }
    }
}

void softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    matrix m = matrix_of(rows, c);
    LAUNCH_ROWS(k_aligned(y, c, c) && k_aligned(dy, c, c) && k_aligned(dx, c, c),
                softmax_grad_kernel, m, y, dy, dx);
}

/* dx = dy - e^y sum(dy) */
template <bool ALIGNED>
__global__ void __launch_bounds__(1024)
    log_softmax_grad_kernel(matrix m, const float *y, const float *dy, float *dx) {
    FOR_ROWS(m, row, at, count) {
        float a[4], b[4], sum = 0;
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(dy + at + i, count - i, b);
            for (int k = 0; k < 4; k++) sum += b[k];
        }
        sum = k_team_sum(sum, m.width);
        FOR_FOURS(m, i, count) {
            k_load<ALIGNED>(y + at + i, count - i, a);
            k_load<ALIGNED>(dy + at + i, count - i, b);
            for (int k = 0; k < 4; k++) b[k] -= expf(a[k]) * sum;
            k_store<ALIGNED>(dx + at + i, count - i, b);
        }
    }
}

void log_softmax_grad(int64_t rows, int64_t c, const float *y, const float *dy, float *dx) {
    matrix m = matrix_of(rows, c);
    LAUNCH_ROWS(k_aligned(y, c, c) && k_aligned(dy, c, c) && k_aligned(dx, c, c),
                log_softmax_grad_kernel, m, y, dy, dx);
}

/* -------------------------------------------------------------------------------- cross entropy */

/* One block adds up all rows, in a fixed order and in double; over no rows the mean is NaN. */
__global__ void __launch_bounds__(1024) mean_loss_kernel(int64_t rows, int64_t c, const float *logp,
                                                         const int32_t *label, float *loss) {
    __shared__ double part[1024];
    double sum = 0;
    for (int64_t r = threadIdx.x; r < rows; r += blockDim.x) sum -= logp[r * c + label[r]];
    part[threadIdx.x] = sum;
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (!threadIdx.x) *loss = (float)(part[0] / (double)rows);
}

void cross_entropy(int64_t rows, int64_t c, const float *x, const int32_t *label, float *logp,
                   float *loss) {
    log_softmax(rows, c, x, logp);
    K_LAUNCH(mean_loss_kernel, 1, rows > 256 ? 1024 : 256, rows, c, logp, label, loss);
}

/* dx = (e^logp - onehot) dloss / rows */
template <bool ALIGNED>
__global__ void __launch_bounds__(1024)
    cross_entropy_grad_kernel(matrix m, const float *logp, const int32_t *label, const float *dloss,
                              float *dx) {
    float scale = *dloss / (float)m.rows;
    FOR_ROWS(m, row, at, count) {
        int64_t target = count ? label[row] : 0;
        FOR_FOURS(m, i, count) {
            float v[4];
            k_load<ALIGNED>(logp + at + i, count - i, v);
            for (int k = 0; k < 4; k++)
                v[k] = (i + k == target ? expm1f(v[k]) : expf(v[k])) * scale;
            k_store<ALIGNED>(dx + at + i, count - i, v);
        }
    }
}

void cross_entropy_grad(int64_t rows, int64_t c, const float *logp, const int32_t *label,
                        const float *dloss, float *dx) {
    matrix m = matrix_of(rows, c);
    LAUNCH_ROWS(k_aligned(logp, c, c) && k_aligned(dx, c, c), cross_entropy_grad_kernel, m, logp,
                label, dloss, dx);
}

} // namespace

extern "C" void k_loss_cuda(k_table *t) {
    t->softmax = softmax;
    t->log_softmax = log_softmax;
    t->softmax_grad = softmax_grad;
    t->log_softmax_grad = log_softmax_grad;
    t->cross_entropy = cross_entropy;
    t->cross_entropy_grad = cross_entropy_grad;
}
