/* reduce_cuda.cu - sum, max, min, argmax and var over any dimensions of a strided array.
 *
 * Contract: k_reduction in kernels.h; reduce_cuda.h has the folds. Which thread folds what depends
 * on the shapes alone, and folds are merged in a fixed tree: the same bits every time.
 *
 * Three ways, all limited by memory:
 *     teams     1 to 32 lanes fold an output: short runs, or many outputs
 *     blocks    256 or 1024 threads fold an output: long runs, 16 bytes a load where aligned
 *     columns   a block folds 4 to 32 neighbouring outputs, its y threads walking the rows: sums
 *               over n, h, w of channels-last activations. Of bf16 a thread takes four, 8 bytes a
 *               load, where aligned, and makes of them what four threads make of floats
 * Where the blocks or columns of long runs are fewer than the multiprocessors, each run is cut into
 * parts, a block each, and a second launch folds what they leave in scratch memory: 8 to 24 bytes
 * for each part of 8192 elements or more.
 *
 * Bytes an element: 4, or 2 of a sum of bf16, and 8 for var, which reads twice; but the parts of
 * var are so short that the second reading finds them in the cache.
 *
 * Surprising: a second launch costs what a block alone draws in the same time, some 100 kB, so runs
 * shorter than LONG are left to one block however few they are. */
#include "reduce_cuda.h"
#include "strided_cuda.h"

namespace {

/* ---------------------------------------------------------------------------- walking an output */

struct job {
    k_places<2> kept;             /* y, x */
    k_places<1> reduced;          /* x, in packs of V elements */
    int64_t outputs, packs, tail; /* tail: elements behind the last pack */
    int64_t columns, panels; /* of the innermost kept dimension, which is not in kept then; 1 */
    int64_t y_step, x_step;  /* from a column to the next */
    int64_t parts, slice;    /* of an output, and the packs of each but the last; 1 */
    float *y;
    const void *x; /* T's, those of the kernel's argument */
    void *scratch; /* the states of each output's parts, side by side; unless parts is 1 */
};

/* Elements of a load: 16 bytes along a run, or so many columns side by side. */
template <class T> struct pack_of;
template <> struct pack_of<float> {
    enum { run = 4, side = 1 };
};
template <> struct pack_of<k_bf16> {
    enum { run = 8, side = 4 };
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

/* Takes U packs from i on, `step` apart: of V elements of an output, or of an element of each of W
 * neighbouring outputs. */
template <class P, int V, int U, int W, class F, class T>
__device__ inline void take(const F &f, typename F::state (&s)[W], const job &j, const T *x,
                            int64_t i, int64_t step) {
    int64_t at[U];
    k_pack<T, V * W> p[U];
    P::of(j, i, step, at);
    for (int u = 0; u < U; u++) p[u] = *(const k_pack<T, V * W> *)(x + at[u]);
    if constexpr (V > 1) {
        for (int u = 0; u < U; u++) {
            float run[V];
            for (int k = 0; k < V; k++) run[k] = k_wide(p[u].v[k]);
            f.take(s[0], run, (i + u * step) * V, 1);
        }
    } else {
        for (int w = 0; w < W; w++) {
            float row[U];
            for (int u = 0; u < U; u++) row[u] = k_wide(p[u].v[w]);
            f.take(s[w], row, i, step);
        }
    }
}

/* The packs first, first + step, ... before end. */
template <class P, int V, int U, int W, class F, class T>
__device__ inline void take_all(const F &f, typename F::state (&s)[W], const job &j, const T *x,
                                int64_t first, int64_t end, int64_t step) {
    int64_t i = first;
    K_ROLLED
    for (; i + (U - 1) * step < end; i += U * step) take<P, V, U>(f, s, j, x, i, step);
    K_ROLLED
    for (; i < end; i += step) take<P, V, 1>(f, s, j, x, i, step);
}

/* What thread `me` of `step` takes of a part of the W outputs whose elements lie at x. */
template <int V, int W, class F, class T>
__device__ inline void walk(const F &f, typename F::state (&s)[W], const job &j, const T *x, span p,
                            int64_t me, int64_t step) {
    enum { U = V > 1 ? 4 : 8 }; /* loads under way at once */
    int64_t first = p.begin + me;
    for (int w = 0; w < W; w++) s[w] = f.none();
    if (j.reduced.nd > 1 && j.reduced.narrow)
        return take_all<deep_places<uint32_t>, V, U>(f, s, j, x, first, p.end, step);
    if (j.reduced.nd > 1)
        return take_all<deep_places<uint64_t>, V, 1>(f, s, j, x, first, p.end, step);
    take_all<flat_places, V, U>(f, s, j, x, first, p.end, step);
    K_ROLLED
    for (int64_t k = p.end * V + me; k < p.end * V + p.tail; k += step) {
        float v[1] = {k_wide(x[k])};
        f.take(s[0], v, k, 1);
    }
}

/* All lanes of the warp call it; those of each team of `team` get its state. */
template <class F>
__device__ inline typename F::state merge_lanes(const F &f, typename F::state s, int team) {
    for (int lanes = team / 2; lanes; lanes /= 2) s = f.merge(s, f.across(s, lanes));
    return s;
}

/* ------------------------------------------------------------------------------- teams of lanes */

template <class T, int V> struct team_gang {
    const job &j;
    const T *x;
    int team;
    bool idle; /* it only takes part in the shuffles */
    __device__ double count() const { return (double)(j.packs * V + j.tail); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        typename F::state s[1] = {f.none()};
        if (!idle) walk<V>(f, s, j, x, {0, j.packs, j.tail}, threadIdx.x % team, team);
        return merge_lanes(f, s[0], team);
    }
};

template <class R, class T, int V>
__global__ void __launch_bounds__(256) teams_kernel(const job j, int team) {
    int64_t teams = blockDim.x / team;
    for (int64_t first = blockIdx.x * teams; first < j.outputs; first += gridDim.x * teams) {
        int64_t i = first + threadIdx.x / team, at[2];
        bool idle = i >= j.outputs;
        k_place(j.kept, idle ? 0 : i, at);
        auto state = R::part(team_gang<T, V>{j, (const T *)j.x + at[1], team, idle});
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

template <class T, int V> struct block_gang {
    const job &j;
    const T *x;
    span p;
    __device__ double count() const { return (double)((p.end - p.begin) * V + p.tail); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        typename F::state s[1];
        walk<V>(f, s, j, x, p, threadIdx.x, blockDim.x);
        return merge_block(f, s[0]);
    }
};

template <class R, class T, int V>
__global__ void __launch_bounds__(1024) blocks_kernel(const job j) {
    for (int64_t i = blockIdx.x; i < j.outputs * j.parts; i += gridDim.x) {
        int64_t output = i / j.parts, part = i - output * j.parts, at[2];
        k_place(j.kept, output, at);
        auto state = R::part(block_gang<T, V>{j, (const T *)j.x + at[1], span_of(j, part)});
        if (threadIdx.x == 0) deliver<R>(j, output, part, at[0], state);
    }
}

/* -------------------------------------------------------------------------------------- columns */

/* A thread walks W neighbouring columns of the block's `width`; what it gets is the state of column
 * number `me` % width, where `me` counts the block's threads. */
template <class T, int W> struct columns_gang {
    const job &j;
    const T *x;
    bool idle;
    span p;
    __device__ double count() const { return (double)(p.end - p.begin); }
    template <class F> __device__ typename F::state fold(const F &f) const {
        __shared__ typename F::state part[1024];
        unsigned width = blockDim.x * W, mine = threadIdx.y * width + threadIdx.x * W;
        typename F::state s[W];
        for (int w = 0; w < W; w++) s[w] = f.none();
        if (!idle) walk<1>(f, s, j, x, p, threadIdx.y, blockDim.y);
        for (int w = 0; w < W; w++) part[mine + w] = s[w];
        for (unsigned h = blockDim.y / 2; h; h /= 2) {
            __syncthreads();
            if (threadIdx.y >= h) continue;
            for (unsigned i = mine; i < mine + W; i++)
                part[i] = f.merge(part[i], part[i + h * width]);
        }
        __syncthreads();
        s[0] = part[(threadIdx.y * blockDim.x + threadIdx.x) & (width - 1)]; /* a power of two */
        __syncthreads();
        return s[0];
    }
};

template <class R, class T, int W>
__global__ void __launch_bounds__(1024) columns_kernel(const job j) {
    static_assert(W == 1 || !R::twice, "a thread has the mean of one column");
    unsigned width = blockDim.x * W, me = threadIdx.y * blockDim.x + threadIdx.x;
    for (int64_t i = blockIdx.x; i < j.outputs * j.parts * j.panels; i += gridDim.x) {
        int64_t run = i / j.panels, outer = run / j.parts, part = run - outer * j.parts, at[2];
        int64_t panel = (i - run * j.panels) * width, column = panel + threadIdx.x * W;
        k_place(j.kept, outer, at);
        const T *x = (const T *)j.x + at[1] + column * j.x_step;
        auto state = R::part(columns_gang<T, W>{j, x, column >= j.columns, span_of(j, part)});
        column = panel + me;
        if (me < width && column < j.columns)
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

/* Whether `pack` elements, which are so many bytes, can be read at once along the last dimension of
 * `along`, wherever the others lead. Of a lone run of them some may be left over. */
bool by_packs(int pack, int bytes, const dims &along, const dims &across, const void *x) {
    int last = along.nd - 1;
    if (last < 0 || along.x[last] != 1 || along.size[last] < pack) return false;
    bool yes = k_aligned_to(bytes, x) && (last == 0 || along.size[last] % pack == 0);
    for (int d = 0; d < across.nd; d++) yes = yes && across.x[d] % pack == 0;
    for (int d = 0; d < last; d++) yes = yes && along.x[d] % pack == 0;
    return yes;
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
    bool packed;                                /* more than one element a load */
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
template <class T> plan plan_of(const k_reduce *r, bool ordered, bool twice, const T *x) {
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
    if (!beside && by_packs(pack_of<T>::run, 16, reduced, kept, x)) {
        int64_t *run = &reduced.size[reduced.nd - 1];
        p.packed = true;
        j->tail = *run % pack_of<T>::run;
        *run /= pack_of<T>::run;
        reduced.x[reduced.nd - 1] = pack_of<T>::run;
    }
    if (beside && !few) {
        const int side = pack_of<T>::side;
        p.packed =
            kept.size[last] % side == 0 && by_packs(side, side * sizeof(T), kept, reduced, x);
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
template <class R, class T, int V> void run_outputs(const plan *p) {
    const job *j = &p->j;
    int64_t team = 1;
    while (p->way == plan::TEAMS && team < 32 && team * 2 <= j->packs) team *= 2;
    if (p->way == plan::BLOCKS)
        K_LAUNCH((blocks_kernel<R, T, V>), k_blocks(j->outputs * j->parts, 1),
                 j->slice > 8192 ? 1024 : 256, *j);
    else
        K_LAUNCH((teams_kernel<R, T, V>), k_blocks(j->outputs * team, 256), 256, *j, (int)team);
}

template <class R, class T, int W> void run_columns(const plan *p) {
    const job *j = &p->j;
    int64_t height = W; /* no less, so that there is a thread for each column */
    while (height * p->width < 1024 && height * 4 < j->slice) height *= 2;
    K_LAUNCH((columns_kernel<R, T, W>), k_blocks(j->outputs * j->parts * j->panels, 1),
             dim3((unsigned)p->width / W, (unsigned)height), *j);
}

template <class R, class T>
void run(const k_reduce *r, bool ordered, float *y, const T *x, void *scratch) {
    plan p = plan_of(r, ordered, R::twice, x);
    job *j = &p.j;
    if (j->outputs == 0) return;
    j->y = y;
    j->x = x;
    j->scratch = scratch;
    if (p.way == plan::COLUMNS && p.packed)
        run_columns<R, T, pack_of<T>::side>(&p);
    else if (p.way == plan::COLUMNS)
        run_columns<R, T, 1>(&p);
    else if (p.packed)
        run_outputs<R, T, pack_of<T>::run>(&p);
    else
        run_outputs<R, T, 1>(&p);
    if (j->parts > 1) K_LAUNCH(merge_kernel<R>, k_blocks(j->outputs * j->columns, 1), 256, *j);
}

/* That of var, which has the most parts and the largest state; what x is makes no more of them. */
int64_t reduce_scratch(const k_reduce *r) {
    plan p = plan_of<float>(r, false, true, 0);
    return p.parts > 1 ? p.j.outputs * p.j.columns * p.parts * (int64_t)sizeof(moments) : 0;
}

#define SLOT(name, ordered)                                                                        \
    template <class T>                                                                             \
    void name##_all(const k_reduce *r, float *y, const float *x, void *scratch) {                  \
        run<name##_op>(r, ordered, y, (const T *)x, scratch);                                      \
    }
SLOT(sum, false)
SLOT(max, false)
SLOT(min, false)
SLOT(argmax, true) /* it counts positions in the order of the dimensions that it was given */
SLOT(var, false)

} // namespace

#define SET(name) t->name = name##_all<float>;
extern "C" void k_reduce_cuda(k_table *t) {
    K_REDUCTIONS(SET)
    t->reduce_scratch = reduce_scratch;
}

extern "C" void k_reduce_narrow_cuda(k_table *t) { t->sum = sum_all<k_bf16>; }
