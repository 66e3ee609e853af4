/* conv_tiles.h - convolution and its gradients as products of register tiles (tile.h), written
 * once for every vector width.
 *
 * All three directions see the source (x, or dy for the data gradient) through one `gather`: the
 * matrix of pixels by taps and channels that a convolution multiplies. It is never built whole; a
 * worker copies a block of it, some BLOCK_ROWS pixels by BLOCK_K columns, and multiplies that while
 * it lies in the second cache. The copy costs a load and a store a vector and is used by all
 * outputs, so it takes few percent of the time from 64 outputs on. A 1x1 convolution with stride 1
 * is not copied at all.
 *
 * The data gradient is the same routine over dy with turned weights. With strides it falls into
 * sh * sw phases: dx pixels of one phase meet the same taps, each phase is a convolution with
 * stride 1, and no zeros are multiplied.
 *
 * Surprising: the weight gradient needs no transposing, its tiles broadcast dy down its columns. */
#ifndef CNN_CONV_TILES_H
#define CNN_CONV_TILES_H

#include "tile.h"

enum {
    BLOCK_ROWS = 84,   /* pixels a block: 6 tiles of 14, 14 of 6 */
    BLOCK_K = 256,     /* columns a block: a tile's rows and a panel fill the first cache */
    GRAD_ROWS = 128,   /* pixels a block of the weight gradient */
    GRAD_COLS = 768,   /* columns of dw a task of the weight gradient at most */
    TASKS = 32,        /* wanted at least, for any number of threads to share */
    PARTIAL = 2 << 20, /* floats of partial sums of dw at most */
};

/* --------------------------------------------------------------------------------- the gather
 * Source position of output `i` and tap `t` along an axis: base + i * stride + t * step. */
typedef struct {
    int64_t size, out, taps, base, stride, step;
} axis;

/* Rows: the n * y.out * x.out pixels. Columns: y.taps * x.taps taps of c channels. */
typedef struct {
    const float *from; /* n pictures of y.size * x.size pixels, row stride ld */
    int64_t ld, c;
    axis y, x;
} gather;

static int64_t gather_cols(const gather *g) { return g->y.taps * g->x.taps * g->c; }

/* Does row r of the gather lie at from + r * ld already? */
static int gather_in_place(const gather *g) {
    return g->y.taps * g->x.taps == 1 && g->y.base == 0 && g->x.base == 0 && g->y.stride == 1 &&
           g->x.stride == 1 && g->y.out == g->y.size && g->x.out == g->x.size;
}

/* One segment of columns, `len` floats from channel `offset` of tap (ky, kx) on, of `rows` rows.
 * A segment may reach over several taps of a line of the picture, and over the line's ends. */
static void gather_segment(const gather *g, int64_t row, int64_t rows, int64_t ky, int64_t kx,
                           int64_t offset, int64_t len, float *to, int64_t ldto) {
    int64_t x = row % g->x.out, y = row / g->x.out % g->y.out, n = row / g->x.out / g->y.out;
    int64_t line = g->x.size * g->ld, step = g->x.stride * g->ld;
    while (rows > 0) {
        int64_t run = smaller(g->x.out - x, rows);
        int64_t sy = g->y.base + y * g->y.stride + ky * g->y.step;
        int inside = sy >= 0 && sy < g->y.size;
        const float *from = g->from + (inside ? (n * g->y.size + sy) * line : 0);
        int64_t at = (g->x.base + x * g->x.stride + kx * g->x.step) * g->ld + offset;
        for (int64_t i = 0; i < run; i++, at += step, to += ldto) {
            if (inside && at >= 0 && at + len <= line) {
                copy_floats(to, from + at, len);
                continue;
            }
            int64_t first = smaller(larger(-at, 0), len);
            int64_t end = inside ? larger(smaller(line - at, len), first) : first;
            zero_floats(to, first);
            copy_floats(to + first, from + at + first, end - first);
            zero_floats(to + end, len - end);
        }
        rows -= run, x = 0;
        if (++y == g->y.out) y = 0, n++;
    }
}

/* Copies the block rows x [col, col + cols) of the gather to `to`. */
static void gather_block(const gather *g, int64_t row, int64_t rows, int64_t col, int64_t cols,
                         float *to, int64_t ldto) {
    int64_t together = g->x.step == 1 && g->ld == g->c ? g->x.taps * g->c : g->c;
    for (int64_t done = 0, len; done < cols; done += len) {
        int64_t at = col + done, tap = at / g->c;
        len = smaller(together - at % together, cols - done);
        gather_segment(g, row, rows, tap / g->x.taps, tap % g->x.taps, at % g->c, len, to + done,
                       ldto);
    }
}

/* The gather of the forward pass and of the weight gradient: group 0. */
static gather gather_input(const k_conv *s, const float *x) {
    return (gather){x,
                    s->ldx,
                    s->c / s->groups,
                    {s->h, s->oh, s->kh, -s->ph, s->sh, s->dh},
                    {s->w, s->ow, s->kw, -s->pw, s->sw, s->dw}};
}

/* -------------------------------------------------------------------- forward and data gradient
 * out[pixel, j] = bias[j] + sum over the columns of the gather. */
typedef struct {
    gather source;
    const float *weights; /* packed: a group after the other, panels of k x TILE_COLS */
    const float *bias;
    float *out;
    float *blocks;                 /* one for each worker */
    int64_t rows, cols, k, groups; /* cols and k: of a group */
    int64_t row_cuts, col_cuts;    /* blocks of a group */
    int64_t block;                 /* floats of a worker's block */
    /* out pixel of row (n, y, x): (n * out_h + y * sy + y0) * out_w + x * sx + x0 */
    int64_t ldout, out_h, out_w, y0, x0, sy, sx;
} product;

static int64_t panels_size(int64_t k, int64_t cols) { return k * round_up(cols, TILE_COLS); }

/* Rows of the result to their places, where these are not a matrix: a phase of a strided dx. */
static void scatter_rows(const product *p, int64_t row, int64_t rows, int64_t col, int64_t cols,
                         const float *from) {
    const gather *g = &p->source;
    for (int64_t r = row; r < row + rows; r++, from += cols) {
        int64_t x = r % g->x.out, y = r / g->x.out % g->y.out, n = r / g->x.out / g->y.out;
        int64_t pixel = (n * p->out_h + y * p->sy + p->y0) * p->out_w + x * p->sx + p->x0;
        copy_floats(p->out + pixel * p->ldout + col, from, cols);
    }
}

/* One block of one group's output: rows x [col, col + cols), col counted in the group. */
static void product_block(const product *p, int64_t group, int64_t row, int64_t rows, int64_t col,
                          int64_t cols) {
    gather g = p->source;
    g.from += group * g.c;
    float *block = p->blocks + k_worker() * p->block;
    int dense = p->sy * p->sx == 1, in_place = gather_in_place(&g);
    int64_t chunk = larger(round_up(ceil_div(p->k, larger(ceil_div(p->k, BLOCK_K), 1)), 16), 16);
    int64_t first = group * p->cols + col; /* in out */
    float *result = block + BLOCK_ROWS * odd_stride(BLOCK_K);
    tiles t = {.rows = rows,
               .cols = cols,
               .acs = 1,
               .ldb = TILE_COLS,
               .panel = p->k * TILE_COLS,
               .c = dense ? p->out + row * p->ldout + first : result,
               .ldc = dense ? p->ldout : cols,
               .bias = p->bias ? p->bias + first : NULL};
    const float *weights = p->weights + group * panels_size(p->k, p->cols) + p->k * col;
    for (int64_t k = 0; k == 0 || k < p->k; k += chunk) {
        t.k = smaller(chunk, p->k - k);
        t.b = weights + k * TILE_COLS;
        if (in_place) {
            t.a = g.from + row * g.ld + k, t.ars = g.ld;
        } else {
            t.a = block, t.ars = odd_stride(t.k);
            gather_block(&g, row, rows, k, t.k, block, t.ars);
        }
        multiply_tiles(&t);
        t.bias = NULL, t.add = 1;
    }
    if (!dense) scatter_rows(p, row, rows, first, cols, result);
}

static void product_blocks(void *ctx, int64_t begin, int64_t end) {
    const product *p = ctx;
    int64_t panels = ceil_div(p->cols, TILE_COLS);
    for (int64_t i = begin; i < end; i++) {
        int64_t c = i % p->col_cuts, r = i / p->col_cuts % p->row_cuts;
        int64_t row = r * BLOCK_ROWS;
        int64_t col = panels * c / p->col_cuts * TILE_COLS;
        int64_t to = smaller(panels * (c + 1) / p->col_cuts * TILE_COLS, p->cols);
        product_block(p, i / p->col_cuts / p->row_cuts, row, smaller(BLOCK_ROWS, p->rows - row),
                      col, to - col);
    }
}

static int64_t block_size(int64_t cols) {
    return BLOCK_ROWS * (odd_stride(BLOCK_K) + round_up(cols, 16));
}

/* Pictures with few pixels are cut by columns too, to give every thread something. */
static void run_product(product *p, int64_t n) {
    p->rows = n * p->source.y.out * p->source.x.out;
    p->k = gather_cols(&p->source);
    p->row_cuts = ceil_div(p->rows, BLOCK_ROWS);
    if (p->row_cuts == 0) return;
    p->col_cuts = smaller(ceil_div(p->cols, TILE_COLS), ceil_div(TASKS, p->row_cuts * p->groups));
    p->block = block_size(p->cols);
    k_parallel(p->groups * p->row_cuts * p->col_cuts, 1, product_blocks, p);
}

/* ------------------------------------------------------------------------------- packed weights
 * B of a product: rows are taps and channels of the source, columns the outputs. */
typedef struct {
    const k_conv *s;
    const float *w;
    float *panels;
    int64_t k, cols; /* of a group */
    axis y, x;       /* data gradient: taps ky = y.base - i * y.step */
} packing;

static void pack_forward(void *ctx, int64_t begin, int64_t end) {
    const packing *p = ctx;
    int64_t panels = ceil_div(p->cols, TILE_COLS);
    for (int64_t i = begin; i < end; i++) {
        int64_t col = i % panels * TILE_COLS, o = i / panels * p->cols + col;
        pack_panel(p->panels + i * p->k * TILE_COLS, p->w + o * p->k, p->k,
                   smaller(p->cols - col, TILE_COLS), 1, p->k);
    }
}

static void pack_data_grad(void *ctx, int64_t begin, int64_t end) {
    const packing *p = ctx;
    const k_conv *s = p->s;
    int64_t panels = ceil_div(p->cols, TILE_COLS), og = s->o / s->groups, cg = p->cols;
    int64_t taps = s->kh * s->kw;
    for (int64_t i = begin; i < end; i++) {
        int64_t col = i % panels * TILE_COLS, o = i / panels * og;
        float *to = p->panels + i * p->k * TILE_COLS;
        for (int64_t ty = 0; ty < p->y.taps; ty++)
            for (int64_t tx = 0; tx < p->x.taps; tx++, to += og * TILE_COLS) {
                int64_t tap = (p->y.base - ty * p->y.step) * s->kw + p->x.base - tx * p->x.step;
                pack_panel(to, p->w + (o * taps + tap) * cg + col, og, smaller(cg - col, TILE_COLS),
                           taps * cg, 1);
            }
    }
}

/* --------------------------------------------------------------------------------------- slots */

static void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias,
                         float *y, void *scratch) {
    product p = {.source = gather_input(s, x),
                 .weights = scratch,
                 .bias = bias,
                 .out = y,
                 .cols = s->o / s->groups,
                 .groups = s->groups,
                 .ldout = s->ldy,
                 .sy = 1,
                 .sx = 1};
    packing pack = {.w = w, .panels = scratch, .k = gather_cols(&p.source), .cols = p.cols};
    k_parallel(s->groups * ceil_div(p.cols, TILE_COLS), 1, pack_forward, &pack);
    p.blocks = pack.panels + s->groups * panels_size(pack.k, p.cols);
    run_product(&p, s->n);
}

/* The taps that reach input pixels `phase`, phase + stride, ...: those with phase + pad - tap *
 * dilation a multiple of the stride, an arithmetic sequence. They are met from the last on, so that
 * positions in dy rise: `taps` gets the last and the distance as base and step. */
static axis phase_axis(int64_t in, int64_t out, int64_t kernel, int64_t phase, int64_t stride,
                       int64_t pad, int64_t dilation, axis *taps) {
    axis a = {.size = out, .out = ceil_div(in - phase, stride), .stride = 1};
    *taps = (axis){.step = 1};
    for (int64_t t = 0; t < kernel; t++) {
        if ((phase + pad - t * dilation) % stride) continue;
        if (a.taps++) taps->step = t - taps->base;
        taps->base = t;
    }
    taps->taps = a.taps;
    a.base = (phase + pad - taps->base * dilation) / stride;
    a.step = taps->step * dilation / stride;
    return a;
}

static void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                           void *scratch) {
    product p = {.source = {.from = dy, .ld = s->ldy, .c = s->o / s->groups},
                 .weights = scratch,
                 .out = dx,
                 .cols = s->c / s->groups,
                 .groups = s->groups,
                 .ldout = s->ldx,
                 .out_h = s->h,
                 .out_w = s->w,
                 .sy = s->sh,
                 .sx = s->sw};
    packing pack = {.s = s, .w = w, .panels = scratch, .cols = p.cols};
    p.blocks = pack.panels + s->groups * panels_size(s->kh * s->kw * p.source.c, p.cols);
    for (p.y0 = 0; p.y0 < smaller(s->sh, s->h); p.y0++)
        for (p.x0 = 0; p.x0 < smaller(s->sw, s->w); p.x0++) {
            p.source.y = phase_axis(s->h, s->oh, s->kh, p.y0, s->sh, s->ph, s->dh, &pack.y);
            p.source.x = phase_axis(s->w, s->ow, s->kw, p.x0, s->sw, s->pw, s->dw, &pack.x);
            pack.k = gather_cols(&p.source);
            k_parallel(s->groups * ceil_div(p.cols, TILE_COLS), 1, pack_data_grad, &pack);
            run_product(&p, s->n);
        }
}

/* ------------------------------------------------------------------------------ weight gradient
 * dw[o x cols] = dy^T gather, cut by columns, and, where dw is small, by pixels into slices with a
 * partial sum each, which are added in order. */
typedef struct {
    gather source;
    const float *dy;
    float *dw; /* or the partial sums: a slice after the other */
    float *blocks;
    int64_t rows, o, cols, groups, ldy;
    int64_t slices, col_cuts;
} weight_product;

static int64_t weight_col(const weight_product *p, int64_t cut) {
    return smaller(ceil_div(p->cols, TILE_COLS) * cut / p->col_cuts * TILE_COLS, p->cols);
}

static int64_t weight_block(const weight_product *p) {
    int64_t panels = ceil_div(ceil_div(p->cols, TILE_COLS), p->col_cuts);
    return GRAD_ROWS * odd_stride(panels * TILE_COLS);
}

static void weight_task(const weight_product *p, int64_t group, int64_t slice, int64_t cut) {
    gather g = p->source;
    g.from += group * g.c;
    float *block = p->blocks + k_worker() * weight_block(p);
    int64_t col = weight_col(p, cut), cols = weight_col(p, cut + 1) - col;
    int64_t blocks = ceil_div(p->rows, GRAD_ROWS);
    int64_t row = blocks * slice / p->slices * GRAD_ROWS;
    int64_t end = smaller(blocks * (slice + 1) / p->slices * GRAD_ROWS, p->rows);
    tiles t = {.rows = p->o,
               .cols = cols,
               .ars = 1,
               .acs = p->ldy,
               .b = block,
               .ldb = odd_stride(cols),
               .panel = TILE_COLS,
               .ldc = p->cols,
               .c = p->dw + (slice * p->groups + group) * p->o * p->cols + col};
    for (; row < end || !t.add; row += GRAD_ROWS, t.add = 1) {
        t.k = smaller(GRAD_ROWS, end - row);
        gather_block(&g, row, t.k, col, cols, block, t.ldb);
        t.a = p->dy + row * p->ldy + group * p->o;
        multiply_tiles(&t);
    }
}

static void weight_tasks(void *ctx, int64_t begin, int64_t end) {
    const weight_product *p = ctx;
    for (int64_t i = begin; i < end; i++)
        weight_task(p, i / p->col_cuts / p->slices, i / p->col_cuts % p->slices, i % p->col_cuts);
}

typedef struct {
    const float *partial;
    float *dw;
    int64_t size, slices;
} weight_sum;

static void add_slices(void *ctx, int64_t begin, int64_t end) {
    const weight_sum *p = ctx;
    copy_floats(p->dw + begin, p->partial + begin, end - begin);
    for (int64_t s = 1; s < p->slices; s++) {
        const float *from = p->partial + s * p->size;
        for (int64_t i = begin; i < end; i++) p->dw[i] += from[i];
    }
}

static weight_product plan_weight_grad(const k_conv *s, const float *x, const float *dy) {
    weight_product p = {.source = gather_input(s, x),
                        .dy = dy,
                        .rows = s->n * s->oh * s->ow,
                        .o = s->o / s->groups,
                        .groups = s->groups,
                        .ldy = s->ldy};
    p.cols = gather_cols(&p.source);
    int64_t size = larger(s->o * p.cols, 1);
    p.slices = smaller(TASKS, smaller(p.rows / (4 * GRAD_ROWS), PARTIAL / size));
    p.slices = larger(p.slices, 1);
    p.col_cuts = larger(ceil_div(TASKS, p.slices * p.groups), ceil_div(p.cols, GRAD_COLS));
    p.col_cuts = smaller(p.col_cuts, ceil_div(p.cols, TILE_COLS));
    return p;
}

static void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                             void *scratch) {
    weight_product p = plan_weight_grad(s, x, dy);
    int64_t size = s->o * p.cols;
    p.dw = p.slices > 1 ? scratch : dw;
    p.blocks = (float *)scratch + (p.slices > 1 ? round_up(p.slices * size, 16) : 0);
    k_parallel(p.groups * p.slices * p.col_cuts, 1, weight_tasks, &p);
    if (p.slices == 1) return;
    weight_sum sum = {scratch, dw, size, p.slices};
    k_parallel(size, 1024, add_slices, &sum);
}

static int64_t conv_scratch(const k_conv *s, int direction) {
    int64_t floats;
    if (direction == 2) {
        weight_product p = plan_weight_grad(s, NULL, NULL);
        floats = k_threads() * weight_block(&p);
        if (p.slices > 1) floats += round_up(p.slices * s->o * p.cols, 16);
    } else {
        int64_t c = s->c / s->groups, o = s->o / s->groups, taps = s->kh * s->kw;
        int64_t from = direction ? o : c, to = direction ? c : o;
        floats = s->groups * panels_size(taps * from, to) + k_threads() * block_size(to);
    }
    return floats * (int64_t)sizeof(float);
}

static void conv_tiles(k_table *t) {
    t->conv_forward = conv_forward;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
}

#endif
