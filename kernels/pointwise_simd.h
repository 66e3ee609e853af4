/* pointwise_simd.h - the elementwise operations that carry time, for AVX2 and AVX-512 alike.
 *
 * Each operation is one line, its formula over vectors, which becomes one loop over dense operands.
 * Everything else - slices, broadcasts, transposed layouts - is turned into that case: an operand
 * that is not dense is packed, a tile of TILE elements at a time, into a buffer in the L1 cache.
 * Memory-bound: 4 bytes an element, or 2 of bf16, for each operand that is not broadcast.
 *
 * Surprising: dimensions come sorted by the output's strides, so the innermost loop walks memory
 * even where the logical order is n c h w and the storage channels-last. */
#include "element.h"
#include "kernels.h"
#include "strided.h"

#if K_SIMD

#include <string.h>

enum {
    TILE = 1024,     /* elements of each operand worked on at once */
    STRIP = 1 << 14, /* elements of a unit of parallel work */
    OPERANDS = 4     /* y, a, b, c */
};

/* Rows of n dense elements, `step` elements apart: y and the inputs. */
typedef struct {
    int64_t rows, n, step[OPERANDS];
    element *at[OPERANDS];
    float p0, p1;
    int streams; /* y goes to memory past the caches */
} tile;

typedef void tile_function(const tile *t);

/* ------------------------------------------------------------------------------- the operations */

typedef vec formula(vec a, vec b, vec c, vec p0, vec p1);

/* One loop of an operation, its formula inlined. All that it needs is in registers: a load from the
 * stack may wait behind stores to y whose addresses look alike in their low 12 bits. */
__attribute__((always_inline)) static inline void run_tile(int inputs, formula *f, const tile *t) {
    const vec none = vec_set(0), p0 = vec_set(t->p0), p1 = vec_set(t->p1);
    const int64_t n = t->n, sy = t->step[0], sa = t->step[1], sb = t->step[2], sc = t->step[3];
    const int streams = t->streams;
    element *y = t->at[0];
    const element *a = t->at[1], *b = t->at[2], *c = t->at[3];
#define VALUE(load, ...)                                                                           \
    f(load(a + i, ##__VA_ARGS__), inputs > 1 ? load(b + i, ##__VA_ARGS__) : none,                  \
      inputs > 2 ? load(c + i, ##__VA_ARGS__) : none, p0, p1)
    for (int64_t rows = t->rows; rows; rows--) {
        int64_t i = 0;
        if (streams && can_stream(y))
            for (; i + LANES <= n; i += LANES) stream(y + i, VALUE(load));
        for (; i + LANES <= n; i += LANES) store(y + i, VALUE(load));
        if (i < n) store_part(y + i, VALUE(load_part, n - i), n - i);
        y += sy, a += sa;
        if (inputs > 1) b += sb;
        if (inputs > 2) c += sc;
    }
#undef VALUE
}

static void run_loop(const k_loop *l, int inputs, tile_function *fn, element *y, const element *a,
                     const element *b, const element *c, const float *p);

#define POINTWISE(name, inputs, formula)                                                           \
    static inline vec name##_of(vec A, vec B, vec C, vec P0, vec P1) {                             \
        (void)A, (void)B, (void)C, (void)P0, (void)P1;                                             \
        return (formula);                                                                          \
    }                                                                                              \
    static void name##_tile(const tile *t) { run_tile(inputs, name##_of, t); }                     \
    static void name##_loop(const k_loop *l, float *y, const float *a, const float *b,             \
                            const float *c, const float p[2]) {                                    \
        run_loop(l, inputs, name##_tile, elements(y), elements_of(a), elements_of(b),              \
                 elements_of(c), p);                                                               \
    }

#define ZERO        vec_set(0)
#define ONE         vec_set(1)
#define TRUTH(mask) vec_keep(mask, ONE)
#define CLAMPED(x)  vec_min(P1, vec_max(P0, x))
#define INSIDE(x)   vec_both(vec_lt(P0, x), vec_lt(x, P1))

POINTWISE(copy, 1, A)
POINTWISE(add, 2, A + B)
POINTWISE(sub, 2, A - B)
POINTWISE(mul, 2, A *B)
POINTWISE(div, 2, A / B)
POINTWISE(maximum, 2, vec_pick(vec_nan(A), A, vec_max(A, B)))
POINTWISE(minimum, 2, vec_pick(vec_nan(A), A, vec_min(A, B)))
#if !K_NARROW
POINTWISE(eq, 2, TRUTH(vec_eq(A, B)))
POINTWISE(ne, 2, TRUTH(vec_ne(A, B)))
POINTWISE(lt, 2, TRUTH(vec_lt(A, B)))
POINTWISE(le, 2, TRUTH(vec_le(A, B)))
POINTWISE(gt, 2, TRUTH(vec_lt(B, A)))
POINTWISE(ge, 2, TRUTH(vec_le(B, A)))
#endif
POINTWISE(where, 3, vec_pick(vec_ne(A, ZERO), B, C))
POINTWISE(neg, 1, -A)
POINTWISE(exp, 1, vec_exp(A))
POINTWISE(sqrt, 1, vec_sqrt(A))
POINTWISE(abs, 1, vec_abs(A))
POINTWISE(tanh, 1, vec_tanh(A))
POINTWISE(sigmoid, 1, vec_sigmoid(A))
POINTWISE(relu, 1, vec_max(ZERO, A))
POINTWISE(leaky_relu, 1, vec_pick(vec_lt(ZERO, A), A, P0 *A))
POINTWISE(gelu, 1, A *normal_at(A).below)
POINTWISE(silu, 1, A / (ONE + vec_exp(-A)))
POINTWISE(clamp, 1, CLAMPED(A))
POINTWISE(affine, 1, P0 *A + P1)
POINTWISE(tanh_grad, 2, A *(ONE - B * B))
POINTWISE(sigmoid_grad, 2, A *B *(ONE - B))
POINTWISE(relu_grad, 2, vec_keep(vec_lt(ZERO, B), A))
POINTWISE(leaky_relu_grad, 2, vec_pick(vec_lt(ZERO, B), A, P0 *A))
POINTWISE(gelu_grad, 2, A *(normal_at(B).below + B * normal_at(B).density))
POINTWISE(silu_grad, 2, A *vec_sigmoid(B) * (ONE + B * (ONE - vec_sigmoid(B))))
POINTWISE(clamp_grad, 2, vec_keep(INSIDE(B), A))

/* ---------------------------------------------------------------------------- tiles and packing */

/* A matrix of rows x n elements seen by one operand. */
typedef struct {
    element *p; /* inputs are only read */
    int64_t row, column;
} operand;

static int is_dense(const operand *o, int64_t rows, int64_t n) {
    return o->column == 1 && (rows == 1 || o->row == n);
}

/* Copies a matrix to rows of n elements, `step` apart. */
static void pack_rows(element *to, int64_t step, const operand *from, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, to += step) {
        const element *x = from->p + r * from->row;
        if (from->column == 0)
            for (int64_t i = 0; i < n; i++) to[i] = *x;
        else if (from->column == 1)
            memcpy(to, x, n * sizeof *to);
        else
            for (int64_t i = 0; i < n; i++) to[i] = x[i * from->column];
    }
}

/* The same; where columns are dense, in squares that are transposed in registers, two below each
 * other to use whole cache lines. */
static void pack(element *to, int64_t step, const operand *from, int64_t rows, int64_t n) {
    enum { SIDE = 8 };
    int64_t down = 0, across = n / SIDE * SIDE;
    if (from->row == 1 && from->column > 1 && across)
        for (; down + 2 * SIDE <= rows; down += 2 * SIDE) {
            for (int64_t i = 0; i < across; i += SIDE) {
                const element *x = from->p + down + i * from->column;
                transpose_square(x, from->column, to + down * step + i, step);
                transpose_square(x + SIDE, from->column, to + (down + SIDE) * step + i, step);
            }
        }
    operand right = {from->p + across * from->column, from->row, from->column};
    operand below = {from->p + down * from->row, from->row, from->column};
    pack_rows(to + across, step, &right, down, n - across);
    pack_rows(to + down * step, step, &below, rows - down, n);
}

static void unpack(const operand *to, const element *from, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, from += n)
        for (int64_t i = 0; i < n; i++) to->p[r * to->row + i * to->column] = from[i];
}

/* The loop, its dimensions in the order in which they are walked. */
typedef struct {
    int nd, inputs, streams;
    int64_t size[K_MAX_DIMS], stride[OPERANDS][K_MAX_DIMS];
    element *p[OPERANDS];
    tile_function *fn;
    float p0, p1;
    int64_t strip_rows, strip_columns; /* of the two innermost dimensions */
} plan;

/* How many rows of n elements share a tile: many if they are narrow, or if that costs no packing
 * but of what is the same in every row. A multiple of LANES, to keep a dense output aligned. */
static int64_t rows_in_tile(const plan *s, const operand x[OPERANDS], int64_t n) {
    int fits = n <= TILE / LANES;
    for (int k = 0; k <= s->inputs && !fits; k++)
        if (!is_dense(&x[k], 2, n) && x[k].row) return 1;
    return n > TILE / LANES ? k_max(1, TILE / n) : TILE / n / LANES * LANES;
}

static operand from_row(const operand *o, int64_t r) {
    return (operand){o->p + r * o->row, o->row, o->column};
}

/* Columns of a strip, n <= TILE if any operand is not dense, in tiles: all rows as they lie in
 * memory, or, where something has to be packed, as many rows as a buffer holds, as one dense row.
 */
static void run_columns(const plan *s, const operand x[OPERANDS], int64_t rows, int64_t n) {
    if (s->fn == copy_tile && x[0].column == 1 && x[1].column != 1) {
        pack(x[0].p, x[0].row, &x[1], rows, n);
        return;
    }
    element buffer[OPERANDS][TILE];
    int64_t group = rows_in_tile(s, x, n);
    int packs = 0, unpacks = 0; /* inputs that change from tile to tile; the output */
    tile t = {.rows = rows, .n = n, .p0 = s->p0, .p1 = s->p1, .streams = s->streams};
    for (int k = 0; k <= s->inputs; k++) {
        int dense = is_dense(&x[k], group, n);
        t.at[k] = dense ? x[k].p : buffer[k];
        t.step[k] = dense ? group * x[k].row : 0;
        if (!dense && k == 0) unpacks = 1;
        if (!dense && k && x[k].row) packs |= 1 << k;
        if (!dense && k && !x[k].row) pack(buffer[k], n, &x[k], k_min(group, rows), n);
    }
    if (group == 1 && !packs && !unpacks) {
        s->fn(&t);
        return;
    }
    t.rows = 1;
    for (int64_t r = 0; r < rows; r += group) {
        int64_t m = k_min(group, rows - r);
        for (int k = 1; packs >> k; k++) {
            operand o = from_row(&x[k], r);
            if (packs >> k & 1) pack(buffer[k], n, &o, m, n);
        }
        t.n = m * n;
        s->fn(&t);
        operand o = from_row(&x[0], r);
        if (unpacks) unpack(&o, buffer[0], m, n);
        for (int k = 0; k <= s->inputs; k++) t.at[k] += t.step[k];
    }
}

static void run_strip(const plan *s, operand x[OPERANDS], int64_t rows, int64_t columns) {
    int64_t pieces = (columns + TILE - 1) / TILE, width = (columns + pieces - 1) / pieces;
    int dense = 1;
    for (int k = 0; k <= s->inputs; k++) dense &= x[k].column == 1;
    if (dense) width = columns; /* no buffer sets a limit */
    for (int64_t n; columns; columns -= n) {
        n = k_min(width, columns);
        run_columns(s, x, rows, n);
        for (int k = 0; k <= s->inputs; k++) x[k].p += n * x[k].column;
    }
}

static int64_t strip_count(int64_t n, int64_t strip) { return (n + strip - 1) / strip; }

static void run_strips(void *ctx, int64_t begin, int64_t end) {
    const plan *s = ctx;
    int inner = s->nd - 1, outer = s->nd - 2;
    int64_t across = strip_count(s->size[inner], s->strip_columns);
    int64_t down = strip_count(s->size[outer], s->strip_rows);
    for (int64_t i = begin; i < end; i++) {
        int64_t column = i % across * s->strip_columns, row = i / across % down * s->strip_rows;
        operand x[OPERANDS];
        for (int k = 0; k <= s->inputs; k++) {
            const int64_t *stride = s->stride[k];
            int64_t offset = k_offset(outer, s->size, stride, i / across / down);
            offset += row * stride[outer] + column * stride[inner];
            x[k] = (operand){s->p[k] + offset, stride[outer], stride[inner]};
        }
        run_strip(s, x, k_min(s->strip_rows, s->size[outer] - row),
                  k_min(s->strip_columns, s->size[inner] - column));
    }
    if (s->streams) vec_stream_end();
}

/* ------------------------------------------------------------------------------------- the plan */

static void swap_dims(plan *s, int d, int e) {
    int64_t t = s->size[d];
    s->size[d] = s->size[e];
    s->size[e] = t;
    for (int k = 0; k < OPERANDS; k++) {
        t = s->stride[k][d];
        s->stride[k][d] = s->stride[k][e];
        s->stride[k][e] = t;
    }
}

/* A transposed input reads whole cache lines only if a strip spans the dimension in which that
 * input is dense: this one becomes the row. */
static int bring_dense_input_near(plan *s) {
    int inner = s->nd - 1, transposed = 0;
    for (int k = 1; k <= s->inputs && inner > 0; k++) {
        if (s->stride[k][inner] == 0 || s->stride[k][inner] == 1) continue;
        for (int d = 0; d < inner; d++) {
            if (s->stride[k][d] != 1) continue;
            for (int e = d; e + 1 < inner; e++) swap_dims(s, e, e + 1);
            transposed = 1;
            break;
        }
    }
    return transposed;
}

static void run_loop(const k_loop *l, int inputs, tile_function *fn, element *y, const element *a,
                     const element *b, const element *c, const float *p) {
    plan s = {.nd = 0,
              .inputs = inputs,
              .p = {y, (element *)a, (element *)b, (element *)c},
              .fn = fn,
              .p0 = p ? p[0] : 0,
              .p1 = p ? p[1] : 0};
    for (int d = 0; d < l->nd; d++) {
        if (l->size[d] == 1) continue;
        const int64_t stride[OPERANDS] = {l->sy[d], l->sa[d], l->sb[d], l->sc[d]};
        s.size[s.nd] = l->size[d];
        for (int k = 0; k < OPERANDS; k++) s.stride[k][s.nd] = stride[k];
        s.nd++;
    }
    int transposed = bring_dense_input_near(&s);
    while (s.nd < 2) { /* a strip has two dimensions */
        s.size[s.nd] = 1;
        for (int k = 0; k < OPERANDS; k++) s.stride[k][s.nd] = 1;
        s.nd++;
        if (s.nd == 2) swap_dims(&s, 0, 1);
    }
    int64_t rows = s.size[s.nd - 2], columns = s.size[s.nd - 1];
    int64_t count = k_count(s.nd, s.size);
    if (!count) return;
    /* rows with gaps would be streamed as scattered pieces: slower than reading the lines first */
    s.streams =
        count * (int64_t)sizeof *s.p[0] >= K_STREAM_BYTES && s.stride[0][s.nd - 2] == columns;
    s.strip_columns = k_min(columns, transposed ? 64 : STRIP);
    s.strip_rows = k_max(1, STRIP / s.strip_columns);
    if (s.strip_rows > LANES) s.strip_rows -= s.strip_rows % LANES; /* keeps a dense y aligned */
    s.strip_rows = k_min(rows, s.strip_rows);
    int64_t strips = count / rows / columns * strip_count(columns, s.strip_columns) *
                     strip_count(rows, s.strip_rows);
    k_parallel(strips, k_max(1, STRIP / (s.strip_rows * s.strip_columns)), run_strips, &s);
}

/* pow, log and sign stay plain. */
/* clang-format off */
#define SIMD_ARITHMETIC(X) \
    X(copy) X(add) X(sub) X(mul) X(div) X(maximum) X(minimum) X(where) X(neg) X(exp) X(sqrt) \
    X(abs) X(tanh) X(sigmoid) X(relu) X(leaky_relu) \
    X(gelu) X(silu) X(clamp) X(affine) X(tanh_grad) X(sigmoid_grad) X(relu_grad) \
    X(leaky_relu_grad) X(gelu_grad) X(silu_grad) X(clamp_grad)
/* clang-format on */

#define SET(name) t->name = name##_loop;
static void pointwise_simd(k_table *t) {
    SIMD_ARITHMETIC(SET)
#if !K_NARROW
    K_COMPARISONS(SET)
#endif
}

#else
static void pointwise_simd(k_table *t) { (void)t; }
#endif
