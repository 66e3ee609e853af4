/* conv_tiles.h - convolution and its gradients as products of register tiles (tile.h), written
 * once for every vector width.
 *
 * No direction builds the im2col matrix. A tile is some pixels with the same taps, and a tap, or a
 * line of taps, is one segment of its sum: the pixels of the tile, seen from the tap, lie at a
 * constant stride. Taps that fall outside the picture are left out, or read zeros beside its lines.
 * The pixels of a tile are
 *   lines     neighbours in a line; the lines needed are copied once, with their zeros, unless they
 *             need none. For wide pictures.
 *   pictures  the same pixel of several pictures, copied so that these lie side by side. For small
 *             pictures: no line fills a tile, and most of their taps fall outside.
 *   matrix    any: a 1x1 convolution with stride 1 is a plain product.
 *
 * The data gradient is the same over dy with transposed weights. With strides it falls into sh * sw
 * phases: dx pixels of one phase meet the same taps, and no zeros are multiplied.
 *
 * A block of about BLOCK_PIXELS outputs keeps its source and one panel of weights in the second
 * cache, and a tile sums all of its taps before it writes. Measured on Zen 5 (AVX-512, share of
 * the FMA peak of 280 GFLOP/s a core): 3x3 and 5x5 layers of 32 channels and more 86 % to 97 %
 * forward and data gradient, 75 % to 91 % weight gradient; pictures of 6x6 and 3x3 pixels 100 % to
 * 145 %, as the taps outside are counted but not multiplied; 1x1 layers, which memory bounds, 55 %
 * to 85 %; first layers with one channel 35 % (3x3) to 85 % (11x11) forward and 10 % to 45 % weight
 * gradient, where a line of taps fills a part of a vector.
 *
 * Surprising: nothing is transposed for the weight gradient. Its tiles are outputs by channels, its
 * steps are pixels, and its segments are lines. */
#ifndef CNN_CONV_TILES_H
#define CNN_CONV_TILES_H

#include "conv_window.h"

#include <math.h>

enum {
    BLOCK_PIXELS = 168, /* of a block, about: 12 tiles of 14, 28 of 6 */
    PICTURES = 14 / TILE_ROWS * TILE_ROWS,
    SMALL = 8,         /* lines up to here are short: pictures side by side, if there are as many */
    SEGMENTS = 64,     /* of a tile; the rest is added by another tile */
    GRAD_PIXELS = 256, /* of a block of the weight gradient, about: dy and x stay in the caches */
    TASKS = 32,        /* wanted at least, for any number of threads to share */
    PARTIAL = 2 << 20  /* floats of partial sums of dw at most */
};

/* -------------------------------------------------------------------- forward and data gradient
 * out[pixel, j] = bias[j] + sum over taps and channels of the source. */
typedef struct {
    source from;
    const float *weights;         /* packed: a group after the other, panels of k x TILE_COLS */
    const k_join *join;           /* of a forward product, or NULL */
    float *out, *blocks;          /* blocks: one for each worker */
    int64_t k, cols, groups;      /* k, cols: of a group */
    int64_t pixel, line, picture; /* strides of out */
    enum { MATRIX, LINES, PICTURES_SIDE_BY_SIDE } mode;
    int64_t lines;                 /* of a block */
    int64_t cuts, col_cuts, block; /* blocks of a group; floats of a worker's */
} product;

static int64_t panels_size(int64_t k, int64_t cols) { return k * round_up(cols, TILE_COLS); }

/* Decides how an output is cut, by the shapes alone. */
static void plan_product(product *p) {
    const source *s = &p->from;
    int64_t pixels = s->y.out * s->x.out;
    p->k = s->y.taps * s->x.taps * s->c;
    p->block = 0;
    if (s->y.taps * s->x.taps == 1 && no_padding(&s->y) && no_padding(&s->x) &&
        pixels == s->y.size * s->x.size && p->picture == pixels * p->pixel) {
        p->mode = MATRIX;
        p->cuts = ceil_div(s->n * pixels, BLOCK_PIXELS);
        if (enters_changed(s)) p->block = BLOCK_PIXELS * odd_stride(s->c);
    } else if (s->x.out <= SMALL && s->n >= SMALL) {
        p->mode = PICTURES_SIDE_BY_SIDE;
        p->cuts = ceil_div(s->n, PICTURES);
        p->block = s->y.size * s->x.size * PICTURES * odd_stride(s->c);
    } else {
        p->mode = LINES;
        p->lines = k_min(ceil_div(BLOCK_PIXELS, k_max(s->x.out, 1)), k_max(s->y.out, 1));
        while (p->lines > 1 && s->n * ceil_div(s->y.out, p->lines) < TASKS) p->lines /= 2;
        p->cuts = s->n * ceil_div(s->y.out, p->lines);
        p->block = round_up(window_size(s, p->lines), 16);
    }
    if (pixels == 0) p->cuts = 0;
    p->col_cuts =
        k_min(ceil_div(p->cols, TILE_COLS), ceil_div(TASKS, k_max(p->cuts * p->groups, 1)));
}

/* One tile, or a column of them: adds up the taps ky x kx of output (y, x), whose A starts at t->a
 * for tap (0, 0) of pixel (w->y, w->x); t->b: a panel. */
static void multiply_taps(const source *s, const window *w, tiles *t, int64_t y, int64_t x,
                          range kx) {
    range ky = taps_inside(&s->y, y);
    int together = taps_together(s, w);
    segment seg[SEGMENTS];
    t->seg = seg, t->segs = 0;
    t->k = together ? size_of(kx) * s->c : s->c;
    int64_t line = s->y.base + y * s->y.stride - w->y, pixel = s->x.base + x * s->x.stride - w->x;
    for (int64_t i = ky.begin; i < ky.end && t->k; i++)
        for (int64_t j = kx.begin; j < (together ? kx.begin + 1 : kx.end); j++) {
            if (t->segs == SEGMENTS) {
                multiply_tiles(t);
                t->segs = 0, t->add = 1, t->bias = NULL;
            }
            seg[t->segs++] =
                (segment){(line + i * s->y.step) * w->line + (pixel + j * s->x.step) * w->pixel,
                          (i * s->x.taps + j) * s->c * TILE_COLS};
        }
    multiply_tiles(t);
}

/* A block of one group: columns [col.begin, col.end) of the group, whose out and bias start at
 * `first`, weights: its panels. */
typedef struct {
    const product *p;
    source s;
    range col;
    int64_t first;
    const float *weights;
    float *copy;
} block;

static tiles panel_of(const block *b, int64_t col) {
    const product *p = b->p;
    const float *bias = p->join ? first_bias(p->join) : NULL;
    return (tiles){.cols = k_min(b->col.end - col, TILE_COLS),
                   .acs = 1,
                   .b = b->weights + col * p->k,
                   .ldb = TILE_COLS,
                   .panel = p->k * TILE_COLS,
                   .c = p->out + b->first + col,
                   .bias = bias ? bias + b->first + col : NULL};
}

/* Rows [row, row + rows) of the output are complete in the block's columns. */
static void finish_block(const block *b, int64_t row, int64_t rows) {
    const product *p = b->p;
    if (!p->join) return;
    finish_rows(p->join, p->out, p->pixel, row, rows, b->first + b->col.begin, size_of(b->col));
}

static void multiply_lines(const block *b, int64_t cut) {
    const product *p = b->p;
    const source *s = &b->s;
    int64_t blocks = ceil_div(s->y.out, p->lines), n = cut / blocks;
    int64_t begin = cut % blocks * p->lines, end = k_min(begin + p->lines, s->y.out);
    window w = no_padding(&s->x) && !enters_changed(s)
                   ? lines_in_place(s, n)
                   : copy_lines(s, n, begin, end - begin, b->copy);
    for (int64_t col = b->col.begin; col < b->col.end; col += TILE_COLS)
        for (int64_t y = begin; y < end; y++) {
            tiles t = panel_of(b, col);
            t.rows = s->x.out, t.a = w.at, t.ars = s->x.stride * w.pixel;
            t.c += n * p->picture + y * p->line, t.ldc = p->pixel;
            multiply_taps(s, &w, &t, y, 0, (range){0, s->x.taps});
        }
    finish_block(b, (n * s->y.out + begin) * s->x.out, (end - begin) * s->x.out);
}

static void multiply_pictures(const block *b, int64_t cut) {
    const product *p = b->p;
    const source *s = &b->s;
    int64_t n = s->n * cut / p->cuts, count = s->n * (cut + 1) / p->cuts - n;
    window w = copy_pictures(s, n, count, b->copy);
    for (int64_t col = b->col.begin; col < b->col.end; col += TILE_COLS)
        for (int64_t i = 0; i < s->y.out * s->x.out; i++) {
            int64_t y = i / s->x.out, x = i % s->x.out;
            tiles t = panel_of(b, col);
            t.rows = count, t.a = w.at, t.ars = odd_stride(s->c);
            t.c += n * p->picture + y * p->line + x * p->pixel, t.ldc = p->picture;
            multiply_taps(s, &w, &t, y, x, taps_inside(&s->x, x));
        }
    finish_block(b, n * s->y.out * s->x.out, count * s->y.out * s->x.out);
}

static void multiply_matrix(const block *b, int64_t cut) {
    const product *p = b->p;
    int64_t row = cut * BLOCK_PIXELS, rows = b->s.n * b->s.y.size * b->s.x.size;
    segment whole = {0, 0};
    tiles t = panel_of(b, b->col.begin);
    t.rows = k_min(BLOCK_PIXELS, rows - row), t.cols = size_of(b->col);
    t.k = p->k, t.seg = &whole, t.segs = 1;
    t.a = b->s.from + row * b->s.ld, t.ars = b->s.ld;
    if (enters_changed(&b->s)) {
        for (int64_t i = 0; i < t.rows; i++)
            copy_entering(b->s.join, b->copy + i * odd_stride(p->k), t.a + i * t.ars, b->s.first,
                          p->k);
        t.a = b->copy, t.ars = odd_stride(p->k);
    }
    t.c += row * p->pixel, t.ldc = p->pixel;
    multiply_tiles(&t);
    finish_block(b, row, t.rows);
}

static range panels_of_cut(int64_t cols, int64_t cuts, int64_t cut) {
    int64_t panels = ceil_div(cols, TILE_COLS);
    return (range){panels * cut / cuts * TILE_COLS,
                   k_min(panels * (cut + 1) / cuts * TILE_COLS, cols)};
}

static void multiply_blocks(void *ctx, int64_t begin, int64_t end) {
    const product *p = ctx;
    for (int64_t i = begin; i < end; i++) {
        int64_t group = i / p->col_cuts / p->cuts, cut = i / p->col_cuts % p->cuts;
        block b = {p,
                   p->from,
                   panels_of_cut(p->cols, p->col_cuts, i % p->col_cuts),
                   group * p->cols,
                   p->weights + group * panels_size(p->k, p->cols),
                   p->blocks + k_worker() * p->block};
        b.s.from += group * b.s.c, b.s.first = group * b.s.c;
        if (p->mode == MATRIX)
            multiply_matrix(&b, cut);
        else if (p->mode == LINES)
            multiply_lines(&b, cut);
        else
            multiply_pictures(&b, cut);
    }
}

/* ------------------------------------------------------------------------------- packed weights
 * B of a product: rows are taps and channels of the source, columns the outputs. */
typedef struct {
    const k_conv *s;
    const float *w;
    float *panels;
    int64_t k, cols; /* of a group */
    axis y, x;       /* data gradient: tap i of the product is tap base - i * step of w */
} packing;

static void pack_forward(void *ctx, int64_t begin, int64_t end) {
    const packing *p = ctx;
    int64_t panels = ceil_div(p->cols, TILE_COLS);
    for (int64_t i = begin; i < end; i++) {
        int64_t col = i % panels * TILE_COLS, o = i / panels * p->cols + col;
        pack_panels(p->panels + i * p->k * TILE_COLS, p->w + o * p->k, p->k,
                    k_min(p->cols - col, TILE_COLS), 1, p->k);
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
                pack_panels(to, p->w + (o * taps + tap) * cg + col, og, k_min(cg - col, TILE_COLS),
                            taps * cg, 1);
            }
    }
}

static void run_product(product *p, k_task *pack, packing *panels, int64_t packed) {
    if (p->cuts == 0) return;
    k_parallel(p->groups * ceil_div(p->cols, TILE_COLS), 1, pack, panels);
    p->weights = panels->panels, p->blocks = panels->panels + packed;
    k_parallel(p->groups * p->cuts * p->col_cuts, 1, multiply_blocks, p);
}

/* ------------------------------------------------------------------------------ the two of them */

static source source_of(const k_conv *s, const float *x) {
    return (source){.from = x,
                    .n = s->n,
                    .ld = s->ldx,
                    .c = s->c / s->groups,
                    .y = {s->h, s->oh, s->kh, -s->ph, s->sh, s->dh},
                    .x = {s->w, s->ow, s->kw, -s->pw, s->sw, s->dw}};
}

static product forward_product(const k_conv *s, const k_join *j) {
    product p = {.from = source_of(s, NULL),
                 .join = j,
                 .cols = s->o / s->groups,
                 .groups = s->groups,
                 .pixel = s->ldy,
                 .line = s->ow * s->ldy,
                 .picture = s->oh * s->ow * s->ldy};
    p.from.join = j;
    plan_product(&p);
    return p;
}

static void direct_forward(const k_conv *s, const k_join *j, const float *x, const float *w,
                           float *y, void *scratch) {
    product p = forward_product(s, j);
    p.from.from = x, p.out = y;
    packing pack = {.w = w, .panels = scratch, .k = p.k, .cols = p.cols};
    run_product(&p, pack_forward, &pack, s->groups * panels_size(p.k, p.cols));
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
    a.base = a.taps ? (phase + pad - taps->base * dilation) / stride : 0;
    a.step = k_max(taps->step * dilation / stride, 1);
    return a;
}

/* Phases along an axis; those that begin beyond the picture have no pixel. */
static int64_t phase_lines(const k_conv *s) { return k_min(s->sh, s->h); }
static int64_t phase_columns(const k_conv *s) { return k_min(s->sw, s->w); }
static int64_t phase_count(const k_conv *s) { return phase_lines(s) * phase_columns(s); }

/* Phase i of them; `pack` gets its taps. */
static product data_grad_product(const k_conv *s, int64_t i, packing *pack) {
    int64_t y = i / phase_columns(s), x = i % phase_columns(s), line = s->w * s->ldx;
    product p = {.from = {.n = s->n, .ld = s->ldy, .c = s->o / s->groups},
                 .cols = s->c / s->groups,
                 .groups = s->groups,
                 .pixel = s->sw * s->ldx,
                 .line = s->sh * line,
                 .picture = s->h * line};
    p.from.y = phase_axis(s->h, s->oh, s->kh, y, s->sh, s->ph, s->dh, &pack->y);
    p.from.x = phase_axis(s->w, s->ow, s->kw, x, s->sw, s->pw, s->dw, &pack->x);
    plan_product(&p);
    return p;
}

static int64_t phases_packed(const k_conv *s) {
    return s->groups * panels_size(s->kh * s->kw * (s->o / s->groups), s->c / s->groups);
}

static void direct_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                             void *scratch) {
    for (int64_t i = 0; i < phase_count(s); i++) {
        packing pack = {.s = s, .w = w, .panels = scratch, .cols = s->c / s->groups};
        product p = data_grad_product(s, i, &pack);
        p.from.from = dy,
        p.out = dx + (i / phase_columns(s) * s->w + i % phase_columns(s)) * s->ldx;
        pack.k = p.k;
        run_product(&p, pack_data_grad, &pack, phases_packed(s));
    }
}

/* ------------------------------------------------------------------------------ weight gradient
 * dw[o, tap, c] = sum over the pixels that the tap finds of dy[pixel, o] * x[pixel, c].
 * Its columns are cut into panels of a tap, or of a line of taps; the lines of outputs, where dw is
 * small, into slices with a partial sum each, which are added in order. */
typedef struct {
    source from;
    const float *dy;
    float *dw; /* or the partial sums: a slice after the other */
    float *blocks;
    int64_t o, k, groups, ldy;   /* o, k: of a group, k = taps * c */
    int64_t run, panels;         /* columns of a tap or line of taps; panels of it */
    int64_t slices, cuts, lines; /* lines: of outputs, a block */
    int64_t block;               /* floats of a worker's window, 0: x is read in place */
} weight_product;

static weight_product plan_weight_grad(const k_conv *s) {
    weight_product p = {
        .from = source_of(s, NULL), .o = s->o / s->groups, .groups = s->groups, .ldy = s->ldy};
    const source *f = &p.from;
    p.k = f->y.taps * f->x.taps * f->c;
    p.lines = k_max(GRAD_PIXELS / k_max(f->x.out, 1), 1);
    int in_place = f->c >= LANES;
    if (!in_place) {
        p.lines = k_min(p.lines, k_max(f->y.out, 1));
        p.block = round_up(window_size(f, p.lines), 16);
    }
    int together = !in_place && pixel_stride(f->c) == f->c && f->x.step == 1;
    p.run = together ? f->x.taps * f->c : f->c;
    p.panels = ceil_div(p.run, TILE_COLS);
    int64_t size = k_max(s->o * p.k, 1), pixels = s->n * f->y.out * f->x.out;
    p.slices = k_min(TASKS, k_min(pixels / (4 * GRAD_PIXELS), PARTIAL / size));
    p.slices = k_max(k_min(p.slices, s->n * f->y.out), 1);
    p.cuts = k_min(ceil_div(TASKS, p.slices * p.groups), p.k / p.run * p.panels);
    return p;
}

/* Adds lines [line, line + lines) of outputs to panel `panel` of dw. */
static void weight_panel(const weight_product *p, const source *s, const window *w, int64_t line,
                         int64_t lines, int64_t panel, tiles *t) {
    int64_t tap = panel / p->panels * (p->run / s->c), col = panel % p->panels * TILE_COLS;
    int64_t ky = tap / s->x.taps, kx = tap % s->x.taps;
    range x = p->block ? (range){0, s->x.out} : outputs_inside(&s->x, kx);
    segment seg[SEGMENTS];
    t->seg = seg, t->segs = 0, t->k = size_of(x);
    t->cols = k_min(p->run - col, TILE_COLS);
    int64_t pixel = s->x.base + x.begin * s->x.stride + kx * s->x.step - w->x;
    for (int64_t i = 0; i < lines && t->k; i++) {
        int64_t n = (line + i) / s->y.out, y = (line + i) % s->y.out;
        int64_t sy = s->y.base + y * s->y.stride + ky * s->y.step;
        if (sy < 0 || sy >= s->y.size) continue;
        if (t->segs == SEGMENTS) {
            multiply_tiles(t);
            t->segs = 0, t->add = 1;
        }
        if (!p->block) sy += n * s->y.size;
        seg[t->segs++] = (segment){(i * s->x.out + x.begin) * p->ldy,
                                   (sy - w->y) * w->line + pixel * w->pixel + col};
    }
    if (t->segs || !t->add) multiply_tiles(t);
}

static void weight_task(const weight_product *p, int64_t group, int64_t slice, int64_t cut) {
    source s = p->from;
    s.from += group * s.c;
    int64_t all = s.n * s.y.out, panels = p->k / p->run * p->panels;
    range line = {all * slice / p->slices, all * (slice + 1) / p->slices};
    range panel = {panels * cut / p->cuts, panels * (cut + 1) / p->cuts};
    float *dw = p->dw + (slice * p->groups + group) * p->o * p->k;
    int add = 0;
    for (int64_t i = line.begin, lines; i < line.end || !add; i += lines, add = 1) {
        window w = lines_in_place(&s, 0);
        lines = k_min(p->lines, line.end - i);
        if (p->block && lines) {
            lines = k_min(lines, s.y.out - i % s.y.out);
            w = copy_lines(&s, i / s.y.out, i % s.y.out, lines, p->blocks + k_worker() * p->block);
        }
        for (int64_t j = panel.begin; j < panel.end; j++) {
            tiles t = {.rows = p->o,
                       .a = p->dy + i * s.x.out * p->ldy + group * p->o,
                       .ars = 1,
                       .acs = p->ldy,
                       .b = w.at,
                       .ldb = s.x.stride * w.pixel,
                       .panel = TILE_COLS,
                       .c = dw + j / p->panels * p->run + j % p->panels * TILE_COLS,
                       .ldc = p->k,
                       .add = add};
            weight_panel(p, &s, &w, i, lines, j, &t);
        }
    }
}

static void weight_tasks(void *ctx, int64_t begin, int64_t end) {
    const weight_product *p = ctx;
    for (int64_t i = begin; i < end; i++)
        weight_task(p, i / p->cuts / p->slices, i / p->cuts % p->slices, i % p->cuts);
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

static void direct_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                               void *scratch) {
    weight_product p = plan_weight_grad(s);
    int64_t size = s->o * p.k;
    p.from.from = x, p.dy = dy, p.dw = p.slices > 1 ? scratch : dw;
    p.blocks = (float *)scratch + (p.slices > 1 ? round_up(p.slices * size, 16) : 0);
    k_parallel(p.groups * p.slices * p.cuts, 1, weight_tasks, &p);
    if (p.slices == 1) return;
    weight_sum sum = {scratch, dw, size, p.slices};
    k_parallel(size, 1024, add_slices, &sum);
}

/* --------------------------------------------------------------------------------------- method */

/* Scratch memory is sized for any join. */
static const float any_gain[1];
static const k_join any_change = {.in_gain = any_gain};

static int64_t direct_scratch(const k_conv *s, k_direction direction) {
    int64_t shared = 0, block = 0;
    if (direction == K_FORWARD) {
        product p = forward_product(s, &any_change);
        shared = s->groups * panels_size(p.k, p.cols), block = p.block;
    } else if (direction == K_DATA_GRAD) {
        shared = phases_packed(s);
        for (int64_t i = 0; i < phase_count(s); i++) {
            packing pack;
            block = k_max(block, data_grad_product(s, i, &pack).block);
        }
    } else {
        weight_product p = plan_weight_grad(s);
        shared = p.slices > 1 ? round_up(p.slices * s->o * p.k, 16) : 0, block = p.block;
    }
    return (shared + k_threads() * block) * (int64_t)sizeof(float);
}

static const char *direct_name(const k_conv *s, k_direction way) {
    (void)s, (void)way;
    return "direct";
}

/* The share of its taps that an axis multiplies: of short lines none beyond the picture. */
static double taps_met(const axis *a) {
    int64_t met = 0;
    for (int64_t t = 0; t < a->taps; t++) met += size_of(outputs_inside(a, t));
    return (double)met / (double)(a->taps * k_max(a->out, 1));
}

/* In vector FMAs: the taps of all pixels, by whole vectors, at the share of the peak that the head
 * of this file tells. */
static double direct_cost(const k_conv *s, k_direction way) {
    source f = source_of(s, NULL);
    int64_t in = s->c / s->groups, out = s->o / s->groups;
    int64_t columns = ceil_div(way == K_DATA_GRAD ? in : out, LANES);
    double steps = (double)(s->n * s->oh * s->ow * s->kh * s->kw * columns) *
                   (double)(way == K_DATA_GRAD ? s->o : s->c) * taps_met(&f.y);
    if (s->ow <= SMALL || way == K_WEIGHT_GRAD) steps *= taps_met(&f.x);
    return steps / (way == K_WEIGHT_GRAD ? 0.8 : 0.95);
}

#endif
