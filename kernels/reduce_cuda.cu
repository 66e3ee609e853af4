/* reduce_cuda.cu - sum, max, min, argmax and var over any dimensions of a strided array.
 *
 * Contract: k_reduction in kernels.h; reduce_generic.c says what NaN and ties do. Sums are folded
 * 4 or 8 at a time in float and those in double, so that their error does not grow with their
 * length. Which thread folds what depends on the shapes alone, and folds are merged in a fixed
 * tree: the same bits every time.
 *
 * Three ways, all limited by memory:
 *     teams     1 to 32 lanes fold an output: short runs, or many outputs
 *     blocks    256 or 1024 threads fold an output: long runs, 16 bytes a load where aligned
 *     columns   a block folds 4 to 32 neighbouring outputs, its y threads walking the rows: sums
 *               over n, h, w of channels-last activations
 * Where the blocks or columns of long runs are fewer than the multiprocessors, each run is cut into
 * parts, a block each, and a second launch folds what they leave in scratch memory: 8 to 24 bytes
 * for each part of 8192 elements or more.
 *
 * Bytes an element: 4, and 8 for var, which reads twice; but the parts of var are so short that the
 * second reading finds them in the cache.
 *
 * Surprising: a second launch costs what a block alone draws in the same time, some 100 kB, so runs
 * shorter than LONG are left to one block however few they are. */
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

/* Of a part's elements: how many, their mean, and the squares around it. Only merged. */
struct moments {
    double n, mean, squares;
};

struct moments_fold {
    typedef moments state;
    __device__ moments none() const { return {0, 0, 0}; }
    __device__ moments merge(moments a, moments b) const {
        double n = a.n + b.n, d = b.mean - a.mean;
        if (a.n == 0 || b.n == 0) return b.n == 0 ? a : b;
        return {n, a.mean + d * (b.n / n), a.squares + b.squares + d * d * (a.n * (b.n / n))};
    }
    __device__ moments across(moments s, int lanes) const {
        return {__shfl_xor_sync(0xffffffffu, s.n, lanes),
                __shfl_xor_sync(0xffffffffu, s.mean, lanes),
                __shfl_xor_sync(0xffffffffu, s.squares, lanes)};
    }
};

/* ----------------------------------------------------------------------------- what is computed */

/* An operation asks a gang of threads to fold a part of the reduced positions, once or `twice`;
 * each of its threads gets the state. States of parts are merged by `merger`. */

struct sum_op {
    typedef sum_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ double part(const G &gang) {
        return gang.fold(sum_fold());
    }
    static __device__ float answer(double s) { return (float)s; }
};

template <int SIGN> struct extreme_op {
    typedef extreme_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ float part(const G &gang) {
        extreme_fold f;
        f.sign = SIGN;
        return gang.fold(f);
    }
    static __device__ float answer(float s) { return SIGN * s; }
};
typedef extreme_op<1> max_op;
typedef extreme_op<-1> min_op;

struct argmax_op {
    typedef argmax_fold merger;
    enum { twice = 0 };
    template <class G> static __device__ place part(const G &gang) {
        return gang.fold(argmax_fold());
    }
    static __device__ float answer(place s) { return (float)s.at; }
};

struct var_op { /* around the mean as a float; the square of what it is off is taken away again */
    typedef moments_fold merger;
    enum { twice = 1 };
    template <class G> static __device__ moments part(const G &gang) {
        double n = gang.count(), mean = gang.fold(sum_fold()) / n;
        squares_fold f;
        f.mean = (float)mean;
        double off = mean - (double)f.mean;
        return {n, mean, gang.fold(f) - n * (off * off)};
    }
    static __device__ float answer(moments m) {
        return m.squares < 0 ? 0 : (float)(m.squares / m.n);
    }
};

/* ---------------------------------------------------------------------------- walking an output */

struct job {
    k_places<2> kept;             /* y, x */
    k_places<1> reduced;          /* x, in packs of V elements */
    int64_t outputs, packs, tail; /* tail: elements behind the last pack */
    int64_t columns, panels; /* of the innermost kept dimension, which is not in kept then; 1 */
    int64_t y_step, x_step;  /* from a column to the next */
    int64_t parts, slice;    /* of an output, and the packs of each but the last; 1 */
    float *y;
    const float *x;
    void *scratch; /* the states of each output's parts, side by side; unless parts is 1 */
};

/* A part of an output's elements: some packs, and the tail or none of it. */
struct span {
    int64_t begin, end, tail;
};

__device__ inline span span_of(const job &j, int64_t part) {
    int64_t begin = part * j.slice, end = begin + j.slice;
    if (part + 1 < j.parts) return {begin, end, 0};
    return {begin, j.packs, j.tail};
}

/* The state of a part, by the thread that has it, on its way to y[at]. */
template <class R, class S>
__device__ inline void deliver(const job &j, int64_t output, int64_t part, int64_t at, S s) {
    if (j.parts == 1)
        j.y[at] = R::answer(s);
    else
        ((S *)j.scratch)[output * j.parts + part] = s;
}

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

/* The packs first, first + step, ... before end. */
template <class P, int V, int U, class F>
__device__ inline typename F::state take_all(const F &f, const job &j, const float *x,
                                             int64_t first, int64_t end, int64_t step) {
    typename F::state s = f.none();
    int64_t i = first;
    K_ROLLED
    for (; i + (U - 1) * step < end; i += U * step) take<P, V, U>(f, s, j, x, i, step);
    K_ROLLED
    for (; i < end; i += step) take<P, V, 1>(f, s, j, x, i, step);
    return s;
}

/* What thread `me` of `step` takes of a part of the output whose elements lie at x. */
template <int V, class F>
__device__ inline typename F::state walk(const F &f, const job &j, const float *x, span p,
                                         int64_t me, int64_t step) {
    enum { U = V > 1 ? 4 : 8 }; /* loads under way at once */
    int64_t first = p.begin + me;
    if (j.reduced.nd > 1 && j.reduced.narrow)
        return take_all<deep_places<uint32_t>, V, U>(f, j, x, first, p.end, step);
    if (j.reduced.nd > 1) return take_all<deep_places<uint64_t>, V, 1>(f, j, x, first, p.end, step);
    typename F::state s = take_all<flat_places, V, U>(f, j, x, first, p.end, step);
    K_ROLLED
    for (int64_t k = p.end * V + me; k < p.end * V + p.tail; k += step) {
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
    __device__ double count() const { return (double)(j.packs * V + j.tail); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        typename F::state s = f.none();
        if (!idle) s = walk<V>(f, j, x, {0, j.packs, j.tail}, threadIdx.x % team, team);
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
        auto state = R::part(team_gang<V>{j, j.x + at[1], team, idle});
        if (!idle && threadIdx.x % team == 0) j.y[at[0]] = R::answer(state);
    }
}

/* --------------------------------------------------------------------------------- whole blocks */

/* The block's state, in each of its threads. */
template <class F>
__device__ inline typename F::state merge_block(const F &f, typename F::state s) {
    __shared__ typename F::state part[32];
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    s = merge_lanes(f, s, 32);
    if (lane == 0) part[warp] = s;
    __syncthreads();
    s = lane < blockDim.x / 32 ? part[lane] : f.none();
    __syncthreads(); /* the next fold may use the same memory */
    return merge_lanes(f, s, 32);
}

template <int V> struct block_gang {
    const job &j;
    const float *x;
    span p;
    __device__ double count() const { return (double)((p.end - p.begin) * V + p.tail); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        return merge_block(f, walk<V>(f, j, x, p, threadIdx.x, blockDim.x));
    }
};

template <class R, int V> __global__ void __launch_bounds__(1024) blocks_kernel(const job j) {
    for (int64_t i = blockIdx.x; i < j.outputs * j.parts; i += gridDim.x) {
        int64_t output = i / j.parts, part = i - output * j.parts, at[2];
        k_place(j.kept, output, at);
        auto state = R::part(block_gang<V>{j, j.x + at[1], span_of(j, part)});
        if (threadIdx.x == 0) deliver<R>(j, output, part, at[0], state);
    }
}

/* -------------------------------------------------------------------------------------- columns */

struct columns_gang {
    const job &j;
    const float *x;
    bool idle;
    span p;
    __device__ double count() const { return (double)(p.end - p.begin); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        __shared__ typename F::state part[1024];
        unsigned x_size = blockDim.x, me = threadIdx.y * x_size + threadIdx.x;
        part[me] = idle ? f.none() : walk<1>(f, j, x, p, threadIdx.y, blockDim.y);
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
    for (int64_t i = blockIdx.x; i < j.outputs * j.parts * j.panels; i += gridDim.x) {
        int64_t run = i / j.panels, outer = run / j.parts, part = run - outer * j.parts, at[2];
        int64_t column = (i - run * j.panels) * blockDim.x + threadIdx.x;
        bool idle = column >= j.columns;
        k_place(j.kept, outer, at);
        const float *x = j.x + at[1] + column * j.x_step;
        auto state = R::part(columns_gang{j, x, idle, span_of(j, part)});
        if (!idle && threadIdx.y == 0)
            deliver<R>(j, outer * j.columns + column, part, at[0] + column * j.y_step, state);
    }
}

/* ------------------------------------------------------------------------------- parts to answers
 */

/* A block an output: thread t takes parts t, t + 256, ... */
template <class R> __global__ void __launch_bounds__(256) merge_kernel(const job j) {
    typedef typename R::merger merger;
    typedef typename merger::state state;
    const merger f = merger();
    for (int64_t i = blockIdx.x; i < j.outputs * j.columns; i += gridDim.x) {
        const state *part = (const state *)j.scratch + i * j.parts;
        state s = f.none();
        for (int64_t k = threadIdx.x; k < j.parts; k += blockDim.x) s = f.merge(s, part[k]);
        s = merge_block(f, s);
        int64_t outer = i / j.columns, at[2];
        k_place(j.kept, outer, at);
        if (threadIdx.x == 0) j.y[at[0] + (i - outer * j.columns) * j.y_step] = R::answer(s);
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
    bool yes = k_aligned_to(16, x) && (reduced->nd == 1 || reduced->size[last] % 4 == 0);
    for (int d = 0; d < kept.nd; d++) yes = yes && kept.x[d] % 4 == 0;
    for (int d = 0; d < last; d++) yes = yes && reduced->x[d] % 4 == 0;
    if (!yes) return false;
    *tail = reduced->size[last] % 4;
    reduced->size[last] /= 4;
    reduced->x[last] = 4;
    return true;
}

enum {
    CARD = 132,        /* multiprocessors that want a block */
    FULL = CARD * 256, /* so many threads give each of them something to do */
    LONG = 1 << 15,    /* elements that are worth a second launch */
    LEAST = 1 << 13,   /* elements of a part */
    MOST = 1 << 15     /* elements of a part that is read twice: those under way fit in the cache */
};

int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* Into how many parts runs are cut, of which there are `runs` of `n` elements. */
int64_t parts_of(int64_t runs, int64_t n, bool twice) {
    if (runs >= CARD || n < LONG) return 1;
    int64_t parts = min((int64_t)(2 * CARD) / runs, n / LEAST);
    return twice ? max(parts, ceil_div(n, MOST)) : parts;
}

/* How a reduction is done; reduce_scratch asks, too. */
struct plan {
    enum { TEAMS, LANES, BLOCKS, COLUMNS } way; /* LANES: teams of one, side by side in x */
    bool four;                                  /* packs of four */
    int64_t width;                              /* of a panel of columns */
    int64_t parts;                              /* of an output, at most: what needs scratch */
    job j;
};

/* Columns: as many blocks as there are multiprocessors, if panels of 4 (16 of each 32 bytes that
 * the memory sends) make so many, since a block alone draws little; or wide panels in parts. */
void plan_columns(plan *p, int64_t rows, bool twice) {
    job *j = &p->j;
    int64_t wide = 32;
    while (wide > 4 && j->columns <= wide / 2) wide /= 2;
    int64_t thin = wide;
    while (thin > 4 && j->outputs * ceil_div(j->columns, thin) < CARD) thin /= 2;
    if (rows * thin >= LONG)
        p->parts = parts_of(j->outputs * ceil_div(j->columns, wide), rows * wide, twice);
    p->width = p->parts > 1 ? wide : thin;
    j->panels = ceil_div(j->columns, p->width);
}

/* Takes x as aligned when it is NULL. Without outputs nothing but their number is filled in. */
plan plan_of(const k_reduce *r, bool ordered, bool twice, const float *x) {
    dims kept = tidy(r->nk, r->ksize, r->kx, r->sy, true);
    dims reduced = tidy(r->nr, r->rsize, r->rx, r->rx, !ordered);
    plan p = plan();
    int64_t outputs = count(kept), rows = count(reduced), apart = INT64_MAX;
    if (outputs == 0) return p;
    for (int d = 0; d < reduced.nd; d++)
        if (llabs(reduced.x[d]) < apart) apart = llabs(reduced.x[d]);
    /* Neighbouring outputs lie closer than what is folded into one: lanes go along the outputs. */
    int last = kept.nd - 1;
    bool beside = last >= 0 && reduced.nd && llabs(kept.x[last]) < apart;
    bool few = rows <= 8 || (rows <= 64 && outputs >= FULL); /* a lane an output will do */
    job *j = &p.j;
    j->columns = j->panels = p.parts = 1;
    p.four = !beside && by_four(kept, &reduced, x, &j->tail);
    if (beside && !few) {
        kept.nd--;
        j->columns = kept.size[last];
        j->y_step = kept.y[last];
        j->x_step = kept.x[last];
    }
    const int64_t *const kept_strides[2] = {kept.y, kept.x}, *const strides[1] = {reduced.x};
    j->outputs = k_places_make(&j->kept, kept.nd, kept.size, kept_strides);
    j->packs = k_places_make(&j->reduced, reduced.nd, reduced.size, strides);
    if (beside && !few) {
        p.way = plan::COLUMNS;
        plan_columns(&p, rows, twice);
    } else if (beside) {
        p.way = plan::LANES;
    } else {
        p.parts = parts_of(outputs, rows, twice);
        bool short_runs = j->packs < 256 || (j->packs <= 1024 && outputs * 32 >= FULL);
        p.way = short_runs ? plan::TEAMS : plan::BLOCKS;
    }
    j->slice = ceil_div(j->packs, p.parts);
    j->parts = ceil_div(j->packs, j->slice);
    return p;
}

/* One output at a time, or a part of it, by a team of lanes or by a block. */
template <class R, int V> void run_outputs(const plan *p) {
    const job *j = &p->j;
    int64_t team = 1;
    while (p->way == plan::TEAMS && team < 32 && team * 2 <= j->packs) team *= 2;
    if (p->way == plan::BLOCKS)
        K_LAUNCH((blocks_kernel<R, V>), k_blocks(j->outputs * j->parts, 1),
                 j->slice > 8192 ? 1024 : 256, *j);
    else
        K_LAUNCH((teams_kernel<R, V>), k_blocks(j->outputs * team, 256), 256, *j, (int)team);
}

template <class R> void run_columns(const plan *p) {
    const job *j = &p->j;
    int64_t height = 1;
    while (height * p->width < 1024 && height * 4 < j->slice) height *= 2;
    K_LAUNCH(columns_kernel<R>, k_blocks(j->outputs * j->parts * j->panels, 1),
             dim3((unsigned)p->width, (unsigned)height), *j);
}

template <class R>
void run(const k_reduce *r, bool ordered, float *y, const float *x, void *scratch) {
    plan p = plan_of(r, ordered, R::twice, x);
    job *j = &p.j;
    if (j->outputs == 0) return;
    j->y = y;
    j->x = x;
    j->scratch = scratch;
    if (p.way == plan::COLUMNS)
        run_columns<R>(&p);
    else if (p.four)
        run_outputs<R, 4>(&p);
    else
        run_outputs<R, 1>(&p);
    if (j->parts > 1) K_LAUNCH(merge_kernel<R>, k_blocks(j->outputs * j->columns, 1), 256, *j);
}

/* That of var, which has the most parts and the largest state. */
int64_t reduce_scratch(const k_reduce *r) {
    plan p = plan_of(r, false, true, 0);
    return p.parts > 1 ? p.j.outputs * p.j.columns * p.parts * (int64_t)sizeof(moments) : 0;
}

#define SLOT(name, ordered)                                                                        \
    void name##_all(const k_reduce *r, float *y, const float *x, void *scratch) {                  \
        run<name##_op>(r, ordered, y, x, scratch);                                                 \
    }
SLOT(sum, false)
SLOT(max, false)
SLOT(min, false)
SLOT(argmax, true) /* it counts positions in the order of the dimensions that it was given */
SLOT(var, false)
} // namespace

#define SET(name) t->name = name##_all;
extern "C" void k_reduce_cuda(k_table *t) {
    K_REDUCTIONS(SET)
    t->reduce_scratch = reduce_scratch;
}
