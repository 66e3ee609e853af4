/* reduce_simd.h - sum, max, min and var for AVX2 and AVX-512 alike.
 *
 * Two ways: where the innermost kept dimension is dense and the reduced ones are not (channels-last
 * sums over n, h, w), columns are added up side by side (columns_simd.h); anywhere else a position
 * at a time, over pieces of PIECE elements that are dense or get packed. An element is read once;
 * by a var that is not over columns, twice. Of bf16 there are sums alone.
 *
 * Surprising: argmax stays plain: it counts positions in the order of the dimensions, which sorting
 * them by their strides would lose. */
#include "columns_simd.h"

#if K_SIMD

#include <math.h>
#include <stdlib.h>

enum { PIECE = 1024, SPLITS = 64, GRAIN = 1 << 14 };

/* ----------------------------------------------------------------------- folding dense elements */

enum { RUN_SUM, RUN_MAX, RUN_MIN, RUN_SQUARES };

typedef double run_function(const element *x, int64_t n, float mean);

__attribute__((always_inline)) static inline vec fold_vec(int kind, vec acc, vec x, vec mean) {
    switch (kind) {
    case RUN_SUM:
        return acc + x;
    case RUN_MAX:
        return vec_pick(vec_nan(x), x, vec_max(x, acc));
    case RUN_MIN:
        return vec_pick(vec_nan(x), x, vec_min(x, acc));
    }
    return vec_fma(x - mean, x - mean, acc);
}

static double fold_pair(int kind, double a, double b) {
    switch (kind) {
    case RUN_MAX:
        return a > b || isnan(a) ? a : b;
    case RUN_MIN:
        return a < b || isnan(a) ? a : b;
    }
    return a + b;
}

__attribute__((always_inline)) static inline double fold_run(int kind, const element *x, int64_t n,
                                                             float mean) {
    const vec around = vec_set(mean);
    const float first = kind == RUN_MAX ? -INFINITY : kind == RUN_MIN ? INFINITY : 0;
    const vec neutral = kind == RUN_SQUARES ? around : vec_set(first);
    vec acc[4] = {vec_set(first), vec_set(first), vec_set(first), vec_set(first)};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            acc[k] = fold_vec(kind, acc[k], load(x + i + k * LANES), around);
    for (; i + LANES <= n; i += LANES) acc[0] = fold_vec(kind, acc[0], load(x + i), around);
    if (i < n)
        acc[1] = fold_vec(kind, acc[1], vec_join(load_part(x + i, n - i), n - i, neutral), around);
    const int pair = kind == RUN_SQUARES ? RUN_SUM : kind;
    for (int k = 1; k < 4; k++) acc[0] = fold_vec(pair, acc[0], acc[k], around);
    float lane[LANES];
    vec_store(lane, acc[0]);
    for (int width = LANES / 2; width; width /= 2)
        for (int k = 0; k < width; k++) lane[k] = fold_pair(kind, lane[k], lane[k + width]);
    return lane[0];
}

static double sum_run(const element *x, int64_t n, float mean) {
    return fold_run(RUN_SUM, x, n, mean);
}
static double max_run(const element *x, int64_t n, float mean) {
    return fold_run(RUN_MAX, x, n, mean);
}
static double min_run(const element *x, int64_t n, float mean) {
    return fold_run(RUN_MIN, x, n, mean);
}
static double squares_run(const element *x, int64_t n, float mean) {
    return fold_run(RUN_SQUARES, x, n, mean);
}

static run_function *const runs[] = {sum_run, max_run, min_run, squares_run};

/* ------------------------------------------------------------------------- a position at a time */

typedef struct {
    k_reduce r; /* sorted and merged */
    int kind, var;
    float *y;
    const element *x;
    int64_t split; /* reduced positions of a part */
} rows_job;

/* Reduced positions [begin, end) of the kept position at x. */
static double fold_range(const k_reduce *r, int kind, const element *x, float mean, int64_t begin,
                         int64_t end) {
    element buffer[PIECE];
    int last = r->nr - 1;
    int64_t inner = r->rsize[last], stride = r->rx[last];
    double total = kind == RUN_MAX ? -INFINITY : kind == RUN_MIN ? INFINITY : 0;
    for (int64_t i = begin, n; i < end; i += n) {
        n = k_min(k_min(PIECE, end - i), inner - i % inner);
        const element *from = x + k_offset(last, r->rsize, r->rx, i / inner) + i % inner * stride;
        if (stride != 1) {
            for (int64_t k = 0; k < n; k++) buffer[k] = from[k * stride];
            from = buffer;
        }
        total = fold_pair(kind, total, runs[kind](from, n, mean));
    }
    return total;
}

static void reduce_positions(void *ctx, int64_t begin, int64_t end) {
    const rows_job *j = ctx;
    const k_reduce *r = &j->r;
    int64_t count = k_count(r->nr, r->rsize);
    for (int64_t i = begin; i < end; i++) {
        const element *x = j->x + k_offset(r->nk, r->ksize, r->kx, i);
        double value = fold_range(r, j->kind, x, 0, 0, count);
        if (j->var) value = fold_range(r, RUN_SQUARES, x, value / count, 0, count) / count;
        j->y[k_offset(r->nk, r->ksize, r->sy, i)] = value;
    }
}

typedef struct {
    const rows_job *j;
    const element *x;
    int kind;
    float mean;
    double part[SPLITS];
} parts_job;

static void reduce_parts(void *ctx, int64_t begin, int64_t end) {
    parts_job *p = ctx;
    int64_t split = p->j->split, count = k_count(p->j->r.nr, p->j->r.rsize);
    for (int64_t i = begin; i < end; i++)
        p->part[i] =
            fold_range(&p->j->r, p->kind, p->x, p->mean, i * split, k_min((i + 1) * split, count));
}

/* One kept position, its reduced ones in parallel parts. */
static double reduce_split(const rows_job *j, const element *x, int kind, float mean) {
    parts_job p = {.j = j, .x = x, .kind = kind, .mean = mean};
    int64_t parts = (k_count(j->r.nr, j->r.rsize) + j->split - 1) / j->split;
    k_parallel(parts, 1, reduce_parts, &p);
    double total = p.part[0];
    for (int64_t i = 1; i < parts; i++) total = fold_pair(kind, total, p.part[i]);
    return total;
}

static void reduce_rows(rows_job *j) {
    const k_reduce *r = &j->r;
    int64_t kept = k_count(r->nk, r->ksize), count = k_count(r->nr, r->rsize);
    if (kept >= SLICES || count < 2 * GRAIN) {
        k_parallel(kept, k_max(1, GRAIN / count), reduce_positions, j);
        return;
    }
    j->split = k_max(GRAIN, (count + SPLITS - 1) / SPLITS);
    for (int64_t i = 0; i < kept; i++) {
        const element *x = j->x + k_offset(r->nk, r->ksize, r->kx, i);
        double value = reduce_split(j, x, j->kind, 0);
        if (j->var) value = reduce_split(j, x, RUN_SQUARES, value / count) / count;
        j->y[k_offset(r->nk, r->ksize, r->sy, i)] = value;
    }
}

/* ----------------------------------------------------------------------------- column by column */

typedef struct {
    k_reduce r;
    int var;
    float *y;
    const element *x;
    int64_t panels; /* of the innermost kept dimension */
} columns_job;

static panel panel_at(const columns_job *j, int64_t i) {
    const k_reduce *r = &j->r;
    int64_t first = i % j->panels * COLUMNS;
    return (panel){.fold = j->var ? MOMENTS : SUM,
                   .x = j->x + k_offset(r->nk - 1, r->ksize, r->kx, i / j->panels) + first,
                   .columns = k_min(COLUMNS, r->ksize[r->nk - 1] - first),
                   .rows = k_count(r->nr, r->rsize),
                   .nr = r->nr,
                   .rsize = r->rsize,
                   .rx = r->rx};
}

static void write_panel(const columns_job *j, int64_t i, const panel *m, const totals *t) {
    const k_reduce *r = &j->r;
    int64_t first = i % j->panels * COLUMNS, stride = r->sy[r->nk - 1];
    float *y = j->y + k_offset(r->nk - 1, r->ksize, r->sy, i / j->panels) + first * stride;
    for (int64_t c = 0; c < m->columns; c++) y[c * stride] = j->var ? t->q[c] / m->rows : t->s[c];
}

static void reduce_panels(void *ctx, int64_t begin, int64_t end) {
    const columns_job *j = ctx;
    totals t;
    for (int64_t i = begin; i < end; i++) {
        panel m = panel_at(j, i);
        add_range(&m, &t, 0, m.rows);
        write_panel(j, i, &m, &t);
    }
}

static void reduce_columns(columns_job *j) {
    const k_reduce *r = &j->r;
    j->panels = (r->ksize[r->nk - 1] + COLUMNS - 1) / COLUMNS;
    int64_t all = k_count(r->nk - 1, r->ksize) * j->panels, rows = k_count(r->nr, r->rsize);
    if (all >= SLICES || rows < 2 * BLOCK) {
        int64_t size = rows * k_min(COLUMNS, r->ksize[r->nk - 1]);
        k_parallel(all, k_max(1, GRAIN / size), reduce_panels, j);
        return;
    }
    totals part[SLICES];
    for (int64_t i = 0; i < all; i++) {
        panel m = panel_at(j, i);
        add_panel(&m, part);
        write_panel(j, i, &m, part);
    }
}

/* ------------------------------------------------------------------------- plan: sort and merge */

/* Drops dimensions of size 1, sorts by the strides in x, merges; `other` are the strides in y. */
static int sort_dims(int nd, int64_t *size, int64_t *x, int64_t *other) {
    int n = 0;
    for (int d = 0; d < nd; d++) {
        if (size[d] == 1) continue;
        int64_t s = size[d], sx = x[d], so = other[d];
        int e = n++;
        for (; e && llabs(x[e - 1]) < llabs(sx); e--) {
            size[e] = size[e - 1];
            x[e] = x[e - 1];
            other[e] = other[e - 1];
        }
        size[e] = s;
        x[e] = sx;
        other[e] = so;
    }
    int merged = 0;
    for (int d = 1; d < n; d++) {
        if (x[merged] == x[d] * size[d] && other[merged] == other[d] * size[d])
            size[d] *= size[merged];
        else
            merged++;
        size[merged] = size[d];
        x[merged] = x[d];
        other[merged] = other[d];
    }
    if (n) return merged + 1;
    size[0] = 1;
    x[0] = other[0] = 1;
    return 1;
}

static void reduce_any(const k_reduce *given, int kind, int var, float *y, const float *given_x) {
    const element *x = elements_of(given_x);
    k_reduce r = *given;
    int64_t none[K_MAX_DIMS] = {0};
    r.nk = sort_dims(r.nk, r.ksize, r.kx, r.sy);
    r.nr = sort_dims(r.nr, r.rsize, r.rx, none);
    int columns = r.kx[r.nk - 1] == 1 && r.ksize[r.nk - 1] > 1 && r.rx[r.nr - 1] != 1;
    if (columns && kind == RUN_SUM) {
        columns_job j = {.r = r, .var = var, .y = y, .x = x};
        reduce_columns(&j);
    } else {
        rows_job j = {.r = r, .kind = kind, .var = var, .y = y, .x = x};
        reduce_rows(&j);
    }
}

static void sum_all(const k_reduce *r, float *y, const float *x, void *scratch) {
    (void)scratch;
    reduce_any(r, RUN_SUM, 0, y, x);
}
#if !K_NARROW
static void max_all(const k_reduce *r, float *y, const float *x, void *scratch) {
    (void)scratch;
    reduce_any(r, RUN_MAX, 0, y, x);
}
static void min_all(const k_reduce *r, float *y, const float *x, void *scratch) {
    (void)scratch;
    reduce_any(r, RUN_MIN, 0, y, x);
}
static void var_all(const k_reduce *r, float *y, const float *x, void *scratch) {
    (void)scratch;
    reduce_any(r, RUN_SUM, 1, y, x);
}

#endif

static void reduce_simd(k_table *t) {
    t->sum = sum_all;
#if !K_NARROW
    t->max = max_all;
    t->min = min_all;
    t->var = var_all;
#endif
}

#else
static void reduce_simd(k_table *t) { (void)t; }
#endif
