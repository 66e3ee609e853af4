/* reduce_cuda.cu - sum, max, min, argmax and var over any dimensions of a strided array.
 *
 * Contract: k_reduction in kernels.h; reduce_generic.c says what NaN and ties do. Sums are folded
 * 4 or 8 at a time in float and those in double, so that their error does not grow with their
 * length. Which thread folds what depends on the shapes alone, and folds are merged in a fixed
 * tree: the same bits every time.
 *
 * Three ways, all limited by memory, 4 bytes an element (var reads twice):
 *     teams     1 to 32 lanes fold an output: short runs, or many outputs
 *     blocks    256 or 1024 threads fold an output: long runs, 16 bytes a load where aligned
 *     columns   a block folds 4 to 32 neighbouring outputs, its y threads walking the rows: sums
 *               over n, h, w of channels-last activations
 *
 * Surprising: without memory for partial sums no output can have more than one block, and one
 * multiprocessor draws a small part of what the card could. By estimate, not by measurement: 50 of
 * 3000 GB/s, so a sum to one number takes 1 ms for 50 MB, and one to 64 channels, which are 16
 * blocks of 4 columns, runs at a quarter of the card's speed. */
#include "strided_cuda.h"

namespace {

/* ------------------------------------------------------------------------------- what is folded */

/* A fold: a state to start with, how it takes N values (at positions at, at + step, ...), how two
 * states merge, and a lane's state as another lane gets it. */

template <int N> __device__ inline float added(const float (&v)[N]) {
    float s[N];
    for (int k = 0; k < N; k++) s[k] = v[k];
    for (int h = N / 2; h; h /= 2)
        for (int k = 0; k < h; k++) s[k] += s[k + h];
    return s[0];
}

struct sum_fold {
    typedef double state;
    __device__ double none() const { return 0; }
    template <int N> __device__ void take(double &s, const float (&v)[N], int64_t, int64_t) const {
        s += (double)added(v);
    }
    __device__ double merge(double a, double b) const { return a + b; }
    __device__ double across(double s, int lanes) const {
        return __shfl_xor_sync(0xffffffffu, s, lanes);
    }
};

/* Squares of the distances from `mean`. */
struct squares_fold : sum_fold {
    float mean;
    template <int N> __device__ void take(double &s, const float (&v)[N], int64_t, int64_t) const {
        float q[N];
        for (int k = 0; k < N; k++) q[k] = (v[k] - mean) * (v[k] - mean);
        s += (double)added(q);
    }
};

/* The largest value times `sign`, 1 or -1. */
struct extreme_fold {
    typedef float state;
    float sign;
    __device__ float none() const { return -INFINITY; }
    template <int N> __device__ void take(float &s, const float (&v)[N], int64_t, int64_t) const {
        for (int k = 0; k < N; k++) s = merge(s, sign * v[k]);
    }
    __device__ float merge(float a, float b) const { return b > a || b != b ? b : a; }
    __device__ float across(float s, int lanes) const {
        return __shfl_xor_sync(0xffffffffu, s, lanes);
    }
};

struct place {
    float value;
    int64_t at;
};

struct argmax_fold {
    typedef place state;
    __device__ place none() const { return {-INFINITY, INT64_MAX}; }
    template <int N>
    __device__ void take(place &s, const float (&v)[N], int64_t at, int64_t step) const {
        for (int k = 0; k < N; k++) s = merge(s, {v[k], at + k * step});
    }
    __device__ place merge(place a, place b) const {
        bool a_nan = a.value != a.value, b_nan = b.value != b.value;
        bool tie = a_nan ? b_nan : a.value == b.value;
        bool later = tie ? b.at < a.at : !a_nan && (b_nan || b.value > a.value);
        return later ? b : a;
    }
    __device__ place across(place s, int lanes) const {
        return {__shfl_xor_sync(0xffffffffu, s.value, lanes),
                __shfl_xor_sync(0xffffffffu, s.at, lanes)};
    }
};

/* ----------------------------------------------------------------------------- what is computed */

/* An operation asks a gang of threads to fold the reduced positions, once or twice; each of its
 * threads gets the answer. */

struct sum_op {
    template <class G> static __device__ float of(const G &gang, double) {
        return (float)gang.fold(sum_fold());
    }
};
struct max_op {
    template <class G> static __device__ float of(const G &gang, double) {
        extreme_fold f;
        f.sign = 1;
        return gang.fold(f);
    }
};
struct min_op {
    template <class G> static __device__ float of(const G &gang, double) {
        extreme_fold f;
        f.sign = -1;
        return -gang.fold(f);
    }
};
struct argmax_op {
    template <class G> static __device__ float of(const G &gang, double) {
        return (float)gang.fold(argmax_fold()).at;
    }
};
struct var_op { /* around the mean as a float; the square of what it is off is taken away again */
    template <class G> static __device__ float of(const G &gang, double n) {
        double mean = gang.fold(sum_fold()) / n;
        squares_fold f;
        f.mean = (float)mean;
        double off = mean - (double)f.mean, v = gang.fold(f) / n - off * off;
        return v < 0 ? 0 : (float)v;
    }
};

/* ---------------------------------------------------------------------------- walking an output */

struct job {
    k_places<2> kept;             /* y, x */
    k_places<1> reduced;          /* x, in packs of V elements */
    int64_t outputs, packs, tail; /* tail: elements behind the last pack */
    double n;                     /* elements folded into an output */
    int64_t columns, panels;      /* of the innermost kept dimension, which is not in kept then */
    int64_t y_step, x_step;       /* from a column to the next */
    float *y;
    const float *x;
};

/* Where the packs i, i + step, ... lie: without a division, with short and with long ones. */
struct flat_places {
    template <int U>
    static __device__ inline void of(const job &j, int64_t i, int64_t step, int64_t (&at)[U]) {
        for (int u = 0; u < U; u++) at[u] = (i + u * step) * j.reduced.stride[0][0];
    }
};
template <class unsigned_int> struct deep_places {
    template <int U>
    static __device__ inline void of(const job &j, int64_t i, int64_t step, int64_t (&at)[U]) {
        const k_places<1> &p = j.reduced;
        unsigned_int left[U];
        for (int u = 0; u < U; u++) left[u] = (unsigned_int)(i + u * step), at[u] = 0;
        K_ROLLED
        for (int d = p.nd - 1; d > 0; d--) { /* side by side, as each waits for its division */
            unsigned_int size = (unsigned_int)p.size[d];
            for (int u = 0; u < U; u++) {
                unsigned_int outer = left[u] / size;
                at[u] += (int64_t)(left[u] - outer * size) * p.stride[0][d];
                left[u] = outer;
            }
        }
        for (int u = 0; u < U; u++) at[u] += (int64_t)left[u] * p.stride[0][0];
    }
};

/* Takes U packs from i on, `step` apart. */
template <class P, int V, int U, class F>
__device__ inline void take(const F &f, typename F::state &s, const job &j, const float *x,
                            int64_t i, int64_t step) {
    int64_t at[U];
    k_pack<float, V> p[U];
    P::of(j, i, step, at);
    for (int u = 0; u < U; u++) p[u] = *(const k_pack<float, V> *)(x + at[u]);
    if constexpr (V > 1) {
        for (int u = 0; u < U; u++) f.take(s, p[u].v, (i + u * step) * V, 1);
    } else {
        float row[U];
        for (int u = 0; u < U; u++) row[u] = p[u].v[0];
        f.take(s, row, i, step);
    }
}

template <class P, int V, int U, class F>
__device__ inline typename F::state take_all(const F &f, const job &j, const float *x,
                                             int64_t first, int64_t step) {
    typename F::state s = f.none();
    int64_t i = first;
    K_ROLLED
    for (; i + (U - 1) * step < j.packs; i += U * step) take<P, V, U>(f, s, j, x, i, step);
    K_ROLLED
    for (; i < j.packs; i += step) take<P, V, 1>(f, s, j, x, i, step);
    return s;
}

/* The packs first, first + step, ... of the output whose elements lie at x. */
template <int V, class F>
__device__ inline typename F::state walk(const F &f, const job &j, const float *x, int64_t first,
                                         int64_t step) {
    enum { U = V > 1 ? 4 : 8 }; /* loads under way at once */
    if (j.reduced.nd > 1 && j.reduced.narrow)
        return take_all<deep_places<uint32_t>, V, U>(f, j, x, first, step);
    if (j.reduced.nd > 1) return take_all<deep_places<uint64_t>, V, 1>(f, j, x, first, step);
    typename F::state s = take_all<flat_places, V, U>(f, j, x, first, step);
    K_ROLLED
    for (int64_t k = j.packs * V + first; k < j.packs * V + j.tail; k += step) {
        float v[1] = {x[k]};
        f.take(s, v, k, 1);
    }
    return s;
}

/* All lanes of the warp call it; those of each team of `team` get its state. */
template <class F>
__device__ inline typename F::state merge_lanes(const F &f, typename F::state s, int team) {
    for (int lanes = team / 2; lanes; lanes /= 2) s = f.merge(s, f.across(s, lanes));
    return s;
}

/* ------------------------------------------------------------------------------- teams of lanes */

template <int V> struct team_gang {
    const job &j;
    const float *x;
    int team;
    bool idle; /* it only takes part in the shuffles */
    template <class F> __device__ typename F::state fold(const F &f) const {
        typename F::state s = f.none();
        if (!idle) s = walk<V>(f, j, x, threadIdx.x % team, team);
        return merge_lanes(f, s, team);
    }
};

template <class R, int V>
__global__ void __launch_bounds__(256) teams_kernel(const job j, int team) {
    int64_t teams = blockDim.x / team;
    for (int64_t first = blockIdx.x * teams; first < j.outputs; first += gridDim.x * teams) {
        int64_t i = first + threadIdx.x / team, at[2];
        bool idle = i >= j.outputs;
        k_place(j.kept, idle ? 0 : i, at);
        float value = R::of(team_gang<V>{j, j.x + at[1], team, idle}, j.n);
        if (!idle && threadIdx.x % team == 0) j.y[at[0]] = value;
    }
}

/* --------------------------------------------------------------------------------- whole blocks */

template <int V> struct block_gang {
    const job &j;
    const float *x;
    template <class F> __device__ typename F::state fold(const F &f) const {
        __shared__ typename F::state part[32];
        unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        typename F::state s = walk<V>(f, j, x, threadIdx.x, blockDim.x);
        s = merge_lanes(f, s, 32);
        if (lane == 0) part[warp] = s;
        __syncthreads();
        s = lane < blockDim.x / 32 ? part[lane] : f.none();
        __syncthreads(); /* the next fold may use the same memory */
        return merge_lanes(f, s, 32);
    }
};

template <class R, int V> __global__ void __launch_bounds__(1024) blocks_kernel(const job j) {
    for (int64_t i = blockIdx.x; i < j.outputs; i += gridDim.x) {
        int64_t at[2];
        k_place(j.kept, i, at);
        float value = R::of(block_gang<V>{j, j.x + at[1]}, j.n);
        if (threadIdx.x == 0) j.y[at[0]] = value;
    }
}

/* -------------------------------------------------------------------------------------- columns */

struct columns_gang {
    const job &j;
    const float *x;
    bool idle;
    template <class F> __device__ typename F::state fold(const F &f) const {
        __shared__ typename F::state part[1024];
        unsigned x_size = blockDim.x, me = threadIdx.y * x_size + threadIdx.x;
        part[me] = idle ? f.none() : walk<1>(f, j, x, threadIdx.y, blockDim.y);
        for (unsigned h = blockDim.y / 2; h; h /= 2) {
            __syncthreads();
            if (threadIdx.y < h) part[me] = f.merge(part[me], part[me + h * x_size]);
        }
        __syncthreads();
        typename F::state s = part[threadIdx.x];
        __syncthreads();
        return s;
    }
};

template <class R> __global__ void __launch_bounds__(1024) columns_kernel(const job j) {
    for (int64_t i = blockIdx.x; i < j.outputs * j.panels; i += gridDim.x) {
        int64_t outer = i / j.panels, at[2];
        int64_t column = (i - outer * j.panels) * blockDim.x + threadIdx.x;
        bool idle = column >= j.columns;
        k_place(j.kept, outer, at);
        float value = R::of(columns_gang{j, j.x + at[1] + column * j.x_step, idle}, j.n);
        if (!idle && threadIdx.y == 0) j.y[at[0] + column * j.y_step] = value;
    }
}

/* ----------------------------------------------------------------------------------------- plan */

struct dims {
    int nd;
    int64_t size[K_MAX_DIMS], x[K_MAX_DIMS], y[K_MAX_DIMS];
};

int64_t count(const dims &d) {
    int64_t n = 1;
    for (int i = 0; i < d.nd; i++) n *= d.size[i];
    return n;
}

/* Drops dimensions of size 1; `sorted`: by their strides in x, the smallest last; merges. */
dims tidy(int nd, const int64_t *size, const int64_t *x, const int64_t *y, bool sorted) {
    dims d;
    int n = 0;
    for (int i = 0; i < nd; i++) {
        if (size[i] == 1) continue;
        int e = n++;
        for (; sorted && e && llabs(d.x[e - 1]) < llabs(x[i]); e--) {
            d.size[e] = d.size[e - 1];
            d.x[e] = d.x[e - 1];
            d.y[e] = d.y[e - 1];
        }
        d.size[e] = size[i];
        d.x[e] = x[i];
        d.y[e] = y[i];
    }
    d.nd = 0;
    for (int i = 0; i < n; i++) {
        int e = d.nd - 1;
        bool joins = e >= 0 && d.x[e] == d.x[i] * d.size[i] && d.y[e] == d.y[i] * d.size[i];
        if (!joins) e = d.nd++;
        d.size[e] = joins ? d.size[e] * d.size[i] : d.size[i];
        d.x[e] = d.x[i];
        d.y[e] = d.y[i];
    }
    return d;
}

/* Whether each output's elements can be read four at a time; those of `reduced` are packs then. */
bool by_four(const dims &kept, dims *reduced, const float *x, int64_t *tail) {
    int last = reduced->nd - 1;
    if (last < 0 || reduced->x[last] != 1 || reduced->size[last] < 4) return false;
    bool yes = k_aligned_to(x, 16) && (reduced->nd == 1 || reduced->size[last] % 4 == 0);
    for (int d = 0; d < kept.nd; d++) yes = yes && kept.x[d] % 4 == 0;
    for (int d = 0; d < last; d++) yes = yes && reduced->x[d] % 4 == 0;
    if (!yes) return false;
    *tail = reduced->size[last] % 4;
    reduced->size[last] /= 4;
    reduced->x[last] = 4;
    return true;
}

enum { FULL = 132 * 256 }; /* so many threads give every multiprocessor something to do */

/* Columns: as many blocks as there are multiprocessors, if panels of 4 (16 of each 32 bytes that
 * the memory sends) make so many, since a block alone draws little. */
template <class R> void run_columns(job *j, int64_t rows) {
    int64_t width = 32, height = 1;
    while (width > 4 &&
           (j->columns <= width / 2 || j->outputs * ((j->columns + width - 1) / width) < 132))
        width /= 2;
    while (height * width < 1024 && height * 4 < rows) height *= 2;
    j->panels = (j->columns + width - 1) / width;
    K_LAUNCH(columns_kernel<R>, k_blocks(j->outputs * j->panels, 1),
             dim3((unsigned)width, (unsigned)height), *j);
}

/* One output at a time by a team of lanes, or by a block. */
template <class R, int V> void run_outputs(const job *j) {
    int64_t team = 1;
    while (team < 32 && team * 2 <= j->packs) team *= 2;
    if (j->packs <= 1024 && (j->packs < 256 || j->outputs * team >= FULL)) {
        K_LAUNCH((teams_kernel<R, V>), k_blocks(j->outputs * team, 256), 256, *j, (int)team);
        return;
    }
    K_LAUNCH((blocks_kernel<R, V>), k_blocks(j->outputs, 1), j->packs > 8192 ? 1024 : 256, *j);
}

template <class R> void run(const k_reduce *r, bool ordered, float *y, const float *x) {
    dims kept = tidy(r->nk, r->ksize, r->kx, r->sy, true);
    dims reduced = tidy(r->nr, r->rsize, r->rx, r->rx, !ordered);
    job j = job();
    j.n = (double)count(reduced);
    j.y = y;
    j.x = x;
    int64_t outputs = count(kept), rows = count(reduced), apart = INT64_MAX;
    if (outputs == 0) return;
    for (int d = 0; d < reduced.nd; d++)
        if (llabs(reduced.x[d]) < apart) apart = llabs(reduced.x[d]);
    /* Neighbouring outputs lie closer than what is folded into one: lanes go along the outputs. */
    int last = kept.nd - 1;
    bool beside = last >= 0 && reduced.nd && llabs(kept.x[last]) < apart;
    bool few = rows <= 8 || (rows <= 64 && outputs >= FULL); /* a lane an output will do */
    bool columns = beside && !few, four = !beside && by_four(kept, &reduced, x, &j.tail);
    if (columns) {
        kept.nd--;
        j.columns = kept.size[last];
        j.y_step = kept.y[last];
        j.x_step = kept.x[last];
    }
    const int64_t *const kept_strides[2] = {kept.y, kept.x}, *const strides[1] = {reduced.x};
    j.outputs = k_places_make(&j.kept, kept.nd, kept.size, kept_strides);
    j.packs = k_places_make(&j.reduced, reduced.nd, reduced.size, strides);
    if (columns)
        run_columns<R>(&j, rows);
    else if (beside)
        K_LAUNCH((teams_kernel<R, 1>), k_blocks(outputs, 256), 256, j, 1);
    else if (four)
        run_outputs<R, 4>(&j);
    else
        run_outputs<R, 1>(&j);
}

/* argmax counts positions in the order of the dimensions that it was given. */
void argmax_all(const k_reduce *r, float *y, const float *x) { run<argmax_op>(r, true, y, x); }
void sum_all(const k_reduce *r, float *y, const float *x) { run<sum_op>(r, false, y, x); }
void max_all(const k_reduce *r, float *y, const float *x) { run<max_op>(r, false, y, x); }
void min_all(const k_reduce *r, float *y, const float *x) { run<min_op>(r, false, y, x); }
void var_all(const k_reduce *r, float *y, const float *x) { run<var_op>(r, false, y, x); }
} // namespace

#define SET(name) t->name = name##_all;
extern "C" void k_reduce_cuda(k_table *t) { K_REDUCTIONS(SET) }
