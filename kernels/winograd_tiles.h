/* winograd_tiles.h - convolution by Winograd's short filters, written once for every vector width
 * (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308).
 *
 * F(m x m, r x r) makes m x m outputs of an r x r kernel from n x n inputs, n = m + r - 1, with n *
 * n multiplications for each pair of channels where the direct method needs m * m * r * r: y  =
 * A_m^T [ (G_r w G_r^T) . (B^T x B) ] A_m        summed over the input channels at each point dx
 * the same of dy, with the kernel turned by half a turn and its channels transposed dw = A_r^T [
 * (G_m dy G_m^T) . (B^T x B) ] A_r       summed over the tiles at each point so B depends on n
 * alone, and A and G on the points and on a size.
 *
 * A block is whole lines of tiles, some TILES of them. Its input is transformed, point by point a
 * matrix of tiles by channels; n * n products by the transformed weights (tile.h) give as many
 * matrices of tiles by outputs, which are transformed back. Both stay in the second cache while the
 * weights, packed once a call, stream by.
 *
 * Measured on Zen 5 (AVX-512, one thread, share of the FMA peak in multiplications of the direct
 * method): 3x3 layers of 64 channels and more 160 % to 240 % forward and data gradient, 120 % to
 * 200 % weight gradient; 5x5 of 96 channels 170 % to 200 %. The transforms take half of the time at
 * 64 channels, as they touch 36 vectors for 16 outputs; they ask ahead for what the next tile reads
 * and writes, which made them twice as fast.
 *
 * Error, of normally distributed x and w, 64 channels, beside float64, relative to the rms of the
 * result, largest and rms: F(2,3) 1.1e-6, 2.9e-7; F(3,3) 3.3e-6, 8.6e-7; F(4,3) 4.6e-6, 1.1e-6;
 * F(2,5) 3.7e-6, 1.4e-6; a direct sum in float32 7e-7 to 1.4e-6 at most. With the points 2, -2 of
 * the paper F(4,3) would have 1.4e-5, 1.7e-6.
 *
 * Surprising: a tile at the right or lower edge reads zeros beyond it and computes outputs that
 * nobody wants; so the fit of the tiles to the picture decides between the forms. */
#ifndef CNN_WINOGRAD_TILES_H
#define CNN_WINOGRAD_TILES_H

#include "conv_finish.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------------------------ the points
 * Polynomials are multiplied by their values at n - 1 points and at infinity, which is the last. */
enum { MOST_POINTS = 6 };

typedef struct {
    int n, m, r;
    const char *name, *grad_name;
} form;

/* The order breaks ties: the more exact first. */
static const form forms[] = {
    {4, 2, 3, "winograd F(2x2, 3x3)", "winograd F(3x3, 2x2)"},
    {5, 3, 3, "winograd F(3x3, 3x3)", "winograd F(3x3, 3x3)"},
    {6, 4, 3, "winograd F(4x4, 3x3)", "winograd F(3x3, 4x4)"},
    {6, 2, 5, "winograd F(2x2, 5x5)", "winograd F(5x5, 2x2)"},
};
enum { FORMS = sizeof forms / sizeof *forms };

/* All of what follows is constant where it is called, so that the unrolled transforms know their
 * zeros and ones. */
INLINE float point(int n, int j) {
    static const float at[3][MOST_POINTS - 1] = {{0, 1, -1}, {0, 1, -1, 2}, {0, 1, -1, 0.5f, -2}};
    return at[n - 4][j];
}

/* Row i: the coefficients of the product of x - p over the points p but point i; the last of all.
 */
INLINE float b_transposed(int n, int i, int j) {
    static const float of_4[4][4] = {{-1, 0, 1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, -1, 0, 1}};
    static const float of_5[5][5] = {{2, -1, -2, 1, 0},
                                     {0, -2, -1, 1, 0},
                                     {0, 2, -3, 1, 0},
                                     {0, -1, 0, 1, 0},
                                     {0, 2, -1, -2, 1}};
    static const float of_6[6][6] = {{1, -1.5f, -2, 1.5f, 1, 0}, {0, -1, 0.5f, 2.5f, 1, 0},
                                     {0, 1, -2.5f, 0.5f, 1, 0},  {0, -2, -1, 2, 1, 0},
                                     {0, 0.5f, -1, -0.5f, 1, 0}, {0, 1, -1.5f, -2, 1.5f, 1}};
    return n == 4 ? of_4[i][j] : n == 5 ? of_5[i][j] : of_6[i][j];
}

INLINE float power(float x, int k) {
    float y = 1;
    UNROLLED for (int i = 0; i < MOST_POINTS; i++) y = i < k ? y * x : y;
    return y;
}

/* Row i of size rows: the points to the i-th power. */
INLINE float a_transposed(int n, int rows, int i, int j) {
    return j < n - 1 ? power(point(n, j), i) : i == rows - 1;
}

/* Column j of size columns: the points to the j-th power, over their distances to the others. */
INLINE float g(int n, int columns, int i, int j) {
    if (i == n - 1) return j == columns - 1;
    float distance = 1;
    UNROLLED for (int k = 0; k < MOST_POINTS - 1; k++) distance *=
        k < n - 1 && k != i ? point(n, i) - point(n, k) : 1;
    return power(point(n, i), j) / distance;
}

/* --------------------------------------------------------------------------------- the transforms
 * to[i] = sum over j of M[i][j] * from[j]; strides in vectors. */
typedef enum { B_TRANSPOSED, A_TRANSPOSED, G } matrix;

INLINE float element(matrix which, int n, int size, int i, int j) {
    return which == B_TRANSPOSED   ? b_transposed(n, i, j)
           : which == A_TRANSPOSED ? a_transposed(n, size, i, j)
                                   : g(n, size, i, j);
}

INLINE void transform_line(matrix which, int n, int size, int rows, int columns, vec *to,
                           int to_stride, const vec *from, int from_stride) {
    vec x[MOST_POINTS];
    UNROLLED for (int j = 0; j < columns; j++) x[j] = from[j * from_stride];
    UNROLLED for (int i = 0; i < rows; i++) {
        vec sum = vec_set(0);
        int begun = 0;
        UNROLLED for (int j = 0; j < columns; j++) {
            float e = element(which, n, size, i, j);
            if (e == 0) continue;
            if (!begun)
                sum = vec_set(e) * x[j];
            else if (e == 1)
                sum += x[j];
            else if (e == -1)
                sum -= x[j];
            else
                sum = vec_fma(vec_set(e), x[j], sum);
            begun = 1;
        }
        to[i * to_stride] = sum;
    }
}

/* The matrix on both sides: columns x columns vectors become rows x rows. */
INLINE void transform(matrix which, int n, int size, int rows, int columns, vec *to,
                      const vec *from) {
    vec between[MOST_POINTS * MOST_POINTS];
    UNROLLED for (int j = 0; j < columns; j++)
        transform_line(which, n, size, rows, columns, between + j, columns, from + j, columns);
    UNROLLED for (int i = 0; i < rows; i++)
        transform_line(which, n, size, rows, columns, to + i * rows, 1, between + i * columns, 1);
}

/* ------------------------------------------------------------------------------------- the shapes
 * A convolution as tiles: of y, whose inputs are x or, for the data gradient, dy. */
typedef struct {
    const form *f;
    int64_t n, h, w, c, ldx; /* input */
    int64_t oh, ow, o, ldy;  /* output */
    int64_t ph, pw;
    int64_t th, tw, lines;    /* tiles of a picture; lines of tiles in all */
    int64_t block;            /* lines of tiles of a block */
    int64_t points, ldv, ldm; /* n * n; floats from a tile to the next: transformed in and out */
} plan;

enum {
    TILES = 56,             /* of a block, about: what a panel of weights is read for */
    GRAD_TILES = 112,       /* of the weight gradient: what its sums are read and written for */
    LEAST_TASKS = 8,        /* wanted, for any number of threads to share */
    GRAD_PARTIAL = 4 << 20, /* floats of its sums at most, but for LEAST_SLICES of them */
    MOST_SLICES = 16,
    LEAST_SLICES = 4
};

static plan plan_of(const form *f, const k_conv *s, k_direction way) {
    plan p = {.f = f, .n = s->n};
    if (way == K_DATA_GRAD) {
        p.h = s->oh, p.w = s->ow, p.c = s->o, p.ldx = s->ldy;
        p.oh = s->h, p.ow = s->w, p.o = s->c, p.ldy = s->ldx;
        p.ph = s->kh - 1 - s->ph, p.pw = s->kw - 1 - s->pw;
    } else {
        p.h = s->h, p.w = s->w, p.c = s->c, p.ldx = s->ldx;
        p.oh = s->oh, p.ow = s->ow, p.o = s->o, p.ldy = s->ldy;
        p.ph = s->ph, p.pw = s->pw;
    }
    p.th = ceil_div(p.oh, f->m), p.tw = ceil_div(p.ow, f->m), p.lines = p.n * p.th;
    p.points = f->n * f->n;
    p.ldv = odd_stride(p.c), p.ldm = odd_stride(p.o);
    int64_t tiles = way == K_WEIGHT_GRAD ? GRAD_TILES : TILES;
    p.block = k_max(tiles / k_max(p.tw, 1), 1);
    p.block = k_max(k_min(p.block, p.lines / LEAST_TASKS), 1);
    return p;
}

static int64_t blocks_of(const plan *p) { return ceil_div(p->lines, p->block); }
static int64_t v_size(const plan *p) { return p->points * p->block * p->tw * p->ldv; }
static int64_t m_size(const plan *p) { return p->points * p->block * p->tw * p->ldm; }
static int64_t u_panel(const plan *p) { return p->c * TILE_COLS; } /* of a point */
static int64_t u_size(const plan *p) { return p->points * ceil_div(p->o, TILE_COLS) * u_panel(p); }

/* ----------------------------------------------------------------------------- pictures to points
 * size x size vectors of a picture of h x w pixels from (y, x) on, channels [c, c + part); zeros
 * outside of it. */
INLINE void load_tile(vec *to, int size, int step, const float *picture, int64_t h, int64_t w,
                      int64_t ld, int64_t y, int64_t x, int64_t c, int64_t part, const k_join *j) {
    if (part == LANES && !j && y >= 0 && y + size <= h && x >= 0 && x + size <= w) {
        const float *at = picture + (y * w + x) * ld + c;
        UNROLLED for (int i = 0; i < size; i++) UNROLLED for (int k = 0; k < size; k++) {
            to[i * size + k] = vec_load(at + (i * w + k) * ld);
            if (k + step >= size) vec_prefetch(at + (i * w + k + step) * ld);
        }
        return;
    }
    for (int i = 0; i < size; i++)
        for (int k = 0; k < size; k++) {
            int inside = y + i >= 0 && y + i < h && x + k >= 0 && x + k < w;
            const float *at = picture + ((y + i) * w + x + k) * ld + c;
            to[i * size + k] = inside ? entering(j, vec_load_upto(at, part), c, part) : vec_set(0);
        }
}

/* What is transformed: pictures h x w, tiles of size x size pixels, step apart, the first at
 * -ph, -pw. */
typedef struct {
    const float *x;
    int64_t h, w, c, ld, step, ph, pw, th, tw;
    const k_join *join;
} tiled;

/* Lines of tiles [begin, end): to[point][tile][channel]. */
INLINE void transform_tiles(matrix which, int n, int size, const tiled *t, int64_t begin,
                            int64_t end, float *to, int64_t ld) {
    int columns = which == B_TRANSPOSED ? n : size;
    int64_t stride = (end - begin) * t->tw * ld;
    for (int64_t line = begin; line < end; line++) {
        const float *picture = t->x + line / t->th * t->h * t->w * t->ld;
        int64_t y = line % t->th * t->step - t->ph;
        for (int64_t i = 0; i < t->tw; i++, to += ld)
            for (int64_t c = 0; c < t->c; c += LANES) {
                vec x[MOST_POINTS * MOST_POINTS], v[MOST_POINTS * MOST_POINTS];
                load_tile(x, columns, which == G ? size : n - size + 1, picture, t->h, t->w, t->ld,
                          y, i * t->step - t->pw, c, k_min(t->c - c, LANES), t->join);
                transform(which, n, size, n, columns, v, x);
                for (int p = 0; p < n * n; p++) vec_store(to + p * stride + c, v[p]);
            }
    }
}

/* The transform of a form by the constants of that form. */
#define OF_FORM(f, CALL)                                                                           \
    do {                                                                                           \
        if ((f)->n == 4)                                                                           \
            CALL(4, 2, 3);                                                                         \
        else if ((f)->n == 5)                                                                      \
            CALL(5, 3, 3);                                                                         \
        else if ((f)->m == 4)                                                                      \
            CALL(6, 4, 3);                                                                         \
        else                                                                                       \
            CALL(6, 2, 5);                                                                         \
    } while (0)

static void input_to_points(const plan *p, const tiled *t, int64_t begin, int64_t end, float *to) {
    if (p->f->n == 4)
        transform_tiles(B_TRANSPOSED, 4, 3, t, begin, end, to, p->ldv);
    else if (p->f->n == 5)
        transform_tiles(B_TRANSPOSED, 5, 3, t, begin, end, to, p->ldv);
    else if (p->f->r == 3)
        transform_tiles(B_TRANSPOSED, 6, 3, t, begin, end, to, p->ldv);
    else
        transform_tiles(B_TRANSPOSED, 6, 5, t, begin, end, to, p->ldv);
}

/* dy of the weight gradient */
static void outputs_to_points(const plan *p, const tiled *t, int64_t begin, int64_t end,
                              float *to) {
#define CALL(n, m, r) transform_tiles(G, n, m, t, begin, end, to, p->ldm)
    OF_FORM(p->f, CALL);
#undef CALL
}

static tiled tiled_input(const plan *p, const float *x, const k_join *j) {
    const k_join *changes = j && j->in_gain ? j : NULL;
    return (tiled){x, p->h, p->w, p->c, p->ldx, p->f->m, p->ph, p->pw, p->th, p->tw, changes};
}

/* ----------------------------------------------------------------------------- points to pictures
 * Lines of tiles [begin, end) of y from from[point][tile][channel], plus bias. */
INLINE void back_tiles(int n, int m, const plan *p, int64_t begin, int64_t end, const float *from,
                       const float *bias, float *y) {
    int64_t stride = (end - begin) * p->tw * p->ldm;
    for (int64_t line = begin; line < end; line++) {
        int64_t top = line % p->th * m, rows = k_min(m, p->oh - top);
        for (int64_t i = 0; i < p->tw; i++, from += p->ldm) {
            int64_t columns = k_min(m, p->ow - i * m);
            float *to = y + ((line / p->th * p->oh + top) * p->ow + i * m) * p->ldy;
            for (int64_t c = 0; c < p->o; c += LANES) {
                int64_t part = k_min(p->o - c, LANES);
                vec v[MOST_POINTS * MOST_POINTS], out[MOST_POINTS * MOST_POINTS];
                for (int k = 0; k < n * n; k++) v[k] = vec_load(from + k * stride + c);
                transform(A_TRANSPOSED, n, m, m, n, out, v);
                vec start = bias ? vec_load_upto(bias + c, part) : vec_set(0);
                for (int64_t a = 0; a < rows; a++)
                    for (int64_t b = 0; b < columns; b++) {
                        float *at = to + (a * p->ow + b) * p->ldy + c;
                        vec_store_upto(at, out[a * m + b] + start, part);
                        __builtin_prefetch(at + m * p->ldy, 1);
                    }
            }
        }
    }
}

static void points_to_output(const plan *p, int64_t begin, int64_t end, const float *from,
                             const float *bias, float *y) {
#define CALL(n, m, r) back_tiles(n, m, p, begin, end, from, bias, y)
    OF_FORM(p->f, CALL);
#undef CALL
}

/* ------------------------------------------------------------------------------- weights to points
 * u[point][panel of outputs][input][TILE_COLS]. */
typedef struct {
    const plan *p;
    const float *w; /* of the convolution: o x r x r x c */
    float *u;
} weights;

/* Forward: outputs o, inputs c. Squares of LANES outputs and inputs are transposed. */
INLINE void weights_forward(int n, int r, const weights *t, int64_t panel) {
    const plan *p = t->p;
    int64_t stride = u_size(p) / p->points;
    for (int64_t col = 0; col < TILE_COLS; col += LANES) {
        int64_t o = panel * TILE_COLS + col;
        for (int64_t c = 0; c < p->c; c += LANES) {
            int64_t part = k_min(p->c - c, LANES);
            vec square[MOST_POINTS * MOST_POINTS][LANES];
            for (int j = 0; j < LANES; j++) {
                vec w[MOST_POINTS * MOST_POINTS], v[MOST_POINTS * MOST_POINTS];
                for (int k = 0; k < r * r; k++)
                    w[k] = o + j < p->o
                               ? vec_load_upto(t->w + ((o + j) * r * r + k) * p->c + c, part)
                               : vec_set(0);
                transform(G, n, r, n, r, v, w);
                for (int k = 0; k < n * n; k++) square[k][j] = v[k];
            }
            for (int k = 0; k < n * n; k++) {
                float *to = t->u + k * stride + panel * u_panel(p) + c * TILE_COLS + col;
                transpose(square[k]);
                for (int64_t i = 0; i < part; i++) vec_store(to + i * TILE_COLS, square[k][i]);
            }
        }
    }
}

/* Data gradient: outputs c, inputs o, the kernel turned. */
INLINE void weights_turned(int n, int r, const weights *t, int64_t panel) {
    const plan *p = t->p;
    int64_t stride = u_size(p) / p->points;
    for (int64_t col = 0; col < TILE_COLS; col += LANES) {
        int64_t c = panel * TILE_COLS + col, part = k_max(k_min(p->o - c, LANES), 0);
        for (int64_t o = 0; o < p->c; o++) {
            vec w[MOST_POINTS * MOST_POINTS], v[MOST_POINTS * MOST_POINTS];
            for (int k = 0; k < r * r; k++)
                w[k] = part ? vec_load_upto(t->w + (o * r * r + r * r - 1 - k) * p->o + c, part)
                            : vec_set(0);
            transform(G, n, r, n, r, v, w);
            float *to = t->u + panel * u_panel(p) + o * TILE_COLS + col;
            for (int k = 0; k < n * n; k++) vec_store(to + k * stride, v[k]);
        }
    }
}

static void pack_weights(void *ctx, int64_t begin, int64_t end) {
    const weights *t = ctx;
#define CALL(n, m, r) weights_forward(n, r, t, i)
    for (int64_t i = begin; i < end; i++) OF_FORM(t->p->f, CALL);
#undef CALL
}

static void pack_turned(void *ctx, int64_t begin, int64_t end) {
    const weights *t = ctx;
#define CALL(n, m, r) weights_turned(n, r, t, i)
    for (int64_t i = begin; i < end; i++) OF_FORM(t->p->f, CALL);
#undef CALL
}

/* -------------------------------------------------------------------- forward and data gradient */

typedef struct {
    plan p;
    tiled in;
    const float *u;
    const k_join *join; /* NULL: none */
    float *y, *blocks;
} winograd;

static void winograd_blocks(void *ctx, int64_t first, int64_t last) {
    const winograd *g = ctx;
    const plan *p = &g->p;
    float *v = g->blocks + k_worker() * (v_size(p) + m_size(p)), *m = v + v_size(p);
    for (int64_t i = first; i < last; i++) {
        int64_t begin = p->lines * i / blocks_of(p), end = p->lines * (i + 1) / blocks_of(p);
        int64_t tiles_here = (end - begin) * p->tw;
        input_to_points(p, &g->in, begin, end, v);
        for (int64_t k = 0; k < p->points; k++) {
            segment whole = {0, 0};
            tiles t = {.rows = tiles_here, .cols = p->o, .k = p->c, .seg = &whole, .segs = 1};
            t.a = v + k * tiles_here * p->ldv, t.ars = p->ldv, t.acs = 1;
            t.b = g->u + k * (u_size(p) / p->points), t.ldb = TILE_COLS, t.panel = u_panel(p);
            t.c = m + k * tiles_here * p->ldm, t.ldc = p->ldm;
            multiply_tiles(&t);
        }
        points_to_output(p, begin, end, m, g->join ? first_bias(g->join) : NULL, g->y);
        int64_t row = begin / p->th * p->oh + begin % p->th * p->f->m;
        int64_t stop = end / p->th * p->oh + end % p->th * p->f->m;
        if (g->join) finish_rows(g->join, g->y, p->ldy, row * p->ow, (stop - row) * p->ow, 0, p->o);
    }
}

static void winograd_run(const plan *p, k_direction way, const k_join *j, const float *x,
                         const float *w, float *y, void *scratch) {
    weights pack = {p, w, scratch};
    k_parallel(ceil_div(p->o, TILE_COLS), 1, way == K_FORWARD ? pack_weights : pack_turned, &pack);
    winograd g = {*p, tiled_input(p, x, j), scratch, j, y, (float *)scratch + u_size(p)};
    k_parallel(blocks_of(p), 1, winograd_blocks, &g);
}

/* -------------------------------------------------------------------------------- weight gradient
 * The lines of tiles are cut into slices with sums of their own, which the transform back adds in
 * order: sums[slice][point][o][c]. */
typedef struct {
    plan p;
    tiled x, dy;
    int64_t slices;
    float *sums, *blocks, *dw;
} winograd_grad;

static int64_t sums_size(const plan *p) { return p->points * p->o * p->ldv; }

static int64_t slices_of(const plan *p) {
    int64_t most = k_max(k_min(GRAD_PARTIAL / sums_size(p), MOST_SLICES), LEAST_SLICES);
    return k_max(k_min(most, blocks_of(p) / 2), 1);
}

static void grad_slice(void *ctx, int64_t first, int64_t last) {
    const winograd_grad *g = ctx;
    const plan *p = &g->p;
    float *v = g->blocks + k_worker() * (v_size(p) + m_size(p)), *m = v + v_size(p);
    for (int64_t slice = first; slice < last; slice++) {
        int64_t line = p->lines * slice / g->slices, stop = p->lines * (slice + 1) / g->slices;
        for (int add = 0; line < stop; line += p->block, add = 1) {
            int64_t end = k_min(line + p->block, stop), tiles_here = (end - line) * p->tw;
            input_to_points(p, &g->x, line, end, v);
            outputs_to_points(p, &g->dy, line, end, m);
            for (int64_t k = 0; k < p->points; k++) {
                segment whole = {0, 0};
                tiles t = {.rows = p->o, .cols = p->c, .k = tiles_here, .seg = &whole, .segs = 1};
                t.a = m + k * tiles_here * p->ldm, t.ars = 1, t.acs = p->ldm;
                t.b = v + k * tiles_here * p->ldv, t.ldb = p->ldv, t.panel = TILE_COLS;
                t.c = g->sums + slice * sums_size(p) + k * p->o * p->ldv, t.ldc = p->ldv;
                t.add = add;
                multiply_tiles(&t);
            }
        }
    }
}

INLINE void sums_to_weights(int n, int r, const winograd_grad *g, int64_t o) {
    const plan *p = &g->p;
    for (int64_t c = 0; c < p->c; c += LANES) {
        int64_t part = k_min(p->c - c, LANES);
        vec v[MOST_POINTS * MOST_POINTS], out[MOST_POINTS * MOST_POINTS];
        for (int k = 0; k < n * n; k++) {
            const float *from = g->sums + (k * p->o + o) * p->ldv + c;
            v[k] = vec_load(from);
            for (int64_t s = 1; s < g->slices; s++) v[k] += vec_load(from + s * sums_size(p));
        }
        transform(A_TRANSPOSED, n, r, r, n, out, v);
        for (int k = 0; k < r * r; k++)
            vec_store_upto(g->dw + (o * r * r + k) * p->c + c, out[k], part);
    }
}

static void grad_weights(void *ctx, int64_t begin, int64_t end) {
    const winograd_grad *g = ctx;
#define CALL(n, m, r) sums_to_weights(n, r, g, i)
    for (int64_t i = begin; i < end; i++) OF_FORM(g->p.f, CALL);
#undef CALL
}

/* ----------------------------------------------------------------------------------- the estimate
 * In vector FMAs at the peak: the products; loads, stores and sums of the transforms, a point and
 * vector; the weights, transformed once and read for every block, or the sums of the weight
 * gradient, read and written for every block. The factors are measured (Zen 5). */

static double form_cost(const form *f, const k_conv *s, k_direction way) {
    plan p = plan_of(f, s, way);
    int grad = way == K_WEIGHT_GRAD;
    double points = (double)p.points, tiles_all = points * (double)(p.lines * p.tw);
    double in = (double)ceil_div(p.c, LANES), out = (double)ceil_div(p.o, LANES);
    double products = tiles_all * (double)p.c * out / (grad ? 0.75 : 0.9);
    double transforms = tiles_all * (in + out) * (grad ? 24 : 14);
    double packed = points * (double)p.c * out, blocks = (double)blocks_of(&p);
    return products + transforms + packed * (grad ? 8 * blocks : 60 + 3 * blocks);
}

static const char *form_name(const form *f, k_direction way) {
    return way == K_WEIGHT_GRAD ? f->grad_name : f->name;
}

static const form *form_of(const k_conv *s, k_direction way) {
    const char *forced = k_forced_conv();
    const form *best = NULL;
    double least = INFINITY;
    if (s->sh != 1 || s->sw != 1 || s->dh != 1 || s->dw != 1 || s->groups != 1 || s->kh != s->kw ||
        s->n * s->oh * s->ow * s->c * s->h * s->w == 0)
        return NULL;
    for (const form *f = forms; f < forms + FORMS; f++) {
        double cost = f->r == s->kh ? form_cost(f, s, way) : INFINITY;
        if (f->r == s->kh && forced && strcmp(form_name(f, way), forced) == 0) cost = 0;
        if (cost < least) best = f, least = cost;
    }
    return best;
}

/* ------------------------------------------------------------------------------------- the method
 */

static const char *winograd_name(const k_conv *s, k_direction way) {
    return form_name(form_of(s, way), way);
}

static double winograd_cost(const k_conv *s, k_direction way) {
    const form *f = form_of(s, way);
    return f ? form_cost(f, s, way) : INFINITY;
}

static int64_t winograd_scratch(const k_conv *s, k_direction way) {
    plan p = plan_of(form_of(s, way), s, way);
    int64_t shared = way == K_WEIGHT_GRAD ? slices_of(&p) * sums_size(&p) : u_size(&p);
    return (shared + k_threads() * (v_size(&p) + m_size(&p))) * (int64_t)sizeof(float);
}

static void winograd_forward(const k_conv *s, const k_join *j, const float *x, const float *w,
                             float *y, void *scratch) {
    plan p = plan_of(form_of(s, K_FORWARD), s, K_FORWARD);
    winograd_run(&p, K_FORWARD, j, x, w, y, scratch);
}

static void winograd_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                               void *scratch) {
    plan p = plan_of(form_of(s, K_DATA_GRAD), s, K_DATA_GRAD);
    winograd_run(&p, K_DATA_GRAD, NULL, dy, w, dx, scratch);
}

static void winograd_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                                 void *scratch) {
    plan p = plan_of(form_of(s, K_WEIGHT_GRAD), s, K_WEIGHT_GRAD);
    winograd_grad g = {.p = p, .x = tiled_input(&p, x, NULL), .slices = slices_of(&p), .dw = dw};
    g.dy = (tiled){dy, p.oh, p.ow, p.o, p.ldy, p.f->m, 0, 0, p.th, p.tw, NULL};
    g.sums = scratch, g.blocks = g.sums + g.slices * sums_size(&p);
    k_parallel(g.slices, 1, grad_slice, &g);
    k_parallel(p.o, 4, grad_weights, &g);
}

#endif
