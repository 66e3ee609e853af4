/* conv_cuda.cu - 2-D convolution and its gradients for cards, as products of tile_cuda.h.
 *
 *   direction     rows                  columns            depth              A    B
 *   y             n*oh*ow pixels of y   o of a group       kh*kw taps x c     x    w
 *   dx            n*h*w pixels of dx    c of a group       taps x o           dy   w
 *   dw            o of a group          kh*kw taps x c     n*oh*ow pixels     dy   x
 *
 * Contract: kernels.h's conv slots: groups, strides, padding, dilation, row strides, any alignment;
 * fp32 sums. Each output is one sum in a fixed order; conv_scratch is 0 unless there are few tiles
 * and long sums, as nearly always for dw.
 *
 * x is never copied: output i and tap t of an axis meet at pixel base + i * stride + t * step,
 * which is the sum of two spots. The data gradient with strides falls into sh * sw phases: the
 * pixels of dx of one phase meet the same taps, and for them it is such a convolution over dy with
 * stride 1, without a zero in between.
 *
 * Groups are products of their own, so those of few channels (depthwise) fill 1 of a tile's 16
 * columns and cost as much as 16 would.
 *
 * Surprising: a phase without taps (stride > kernel) is a product of depth 0: it writes zeros. */
#include "tile_cuda.h"

namespace {

/* ----------------------------------------------------------------------------- pixels and taps */

struct axis {
    int64_t size, out, taps, base, stride, step;
};

/* n pictures that are read: x, or dy for the data gradient. */
struct picture {
    axis y, x;
    int64_t ld;

    /* The pixel under the first tap of output i of n * y.out * x.out. */
    __device__ spot pixel(int64_t i) const {
        int64_t line = i / x.out, n = line / y.out;
        int64_t py = y.base + (line - n * y.out) * y.stride;
        int64_t px = x.base + (i - line * x.out) * x.stride;
        return {((n * y.size + py) * x.size + px) * ld, py, px};
    }
    /* From there to channel k % c of tap k / c. */
    __device__ spot tap(int64_t k, int64_t c) const {
        int64_t tap = k / c, ty = tap / x.taps;
        int64_t py = ty * y.step, px = (tap - ty * x.taps) * x.step;
        return {(py * x.size + px) * ld + k - tap * c, py, px};
    }
};

picture picture_of_x(const k_conv *s) {
    return {{s->h, s->oh, s->kh, -s->ph, s->sh, s->dh},
            {s->w, s->ow, s->kw, -s->pw, s->sw, s->dw},
            s->ldx};
}

/* --------------------------------------------------------------------------------- the products */

struct forward {
    enum { A_DEEP = 1, B_DEEP = 1 };
    int64_t rows, columns, depth, first; /* columns: o of a group */
    picture x;
    int64_t c; /* of a group */
    int64_t group;

    __device__ void enter(int64_t piece) {
        group = piece;
        first = group * columns;
    }
    __device__ spot a_row(int64_t i) const {
        spot p = x.pixel(i);
        p.at += group * c;
        return p;
    }
    __device__ spot a_depth(int64_t k) const { return x.tap(k, c); }
    __device__ spot b_column(int64_t j) const { return {(first + j) * depth, 0, 0}; }
    __device__ spot b_depth(int64_t k) const { return {k, 0, 0}; }
    __device__ int64_t c_row(int64_t i) const { return i; }
};

/* An axis of dx. Its pixel i meets tap k in output (i + pad - k * dilation) / stride, if that is
 * whole: pixels i = phase, phase + stride, ... meet taps k = tap, tap + every, ... */
struct phases {
    int64_t size, out, taps, pad, stride, dilation, every;
    int64_t phase, tap;

    __device__ axis enter(int64_t which) {
        phase = which;
        tap = 0;
        while (tap < taps && (phase + pad - tap * dilation) % stride) tap++;
        return {out,
                (size - phase + stride - 1) / stride,
                (taps - tap + every - 1) / every,
                tap < taps ? (phase + pad - tap * dilation) / stride : 0,
                1,
                -(every * dilation / stride)};
    }
};

int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

phases phases_of(int64_t size, int64_t out, int64_t taps, int64_t pad, int64_t stride,
                 int64_t dilation) {
    int64_t every = stride / common_divisor(stride, dilation);
    return {size, out, taps, pad, stride, dilation, every, 0, 0};
}

struct data_grad {
    enum { A_DEEP = 1, B_DEEP = 0 };
    int64_t rows, columns, depth, first; /* columns: c of a group */
    phases y, x;
    int64_t n, o, ldy;        /* o of a group */
    int64_t count_y, count_x; /* phases */
    int64_t group;
    picture dy;

    __device__ void enter(int64_t piece) {
        group = piece / (count_y * count_x);
        first = group * columns;
        dy = {y.enter(piece / count_x % count_y), x.enter(piece % count_x), ldy};
        rows = n * dy.y.out * dy.x.out;
        depth = dy.y.taps * dy.x.taps * o;
    }
    __device__ spot a_row(int64_t i) const {
        spot p = dy.pixel(i);
        p.at += group * o;
        return p;
    }
    __device__ spot a_depth(int64_t k) const { return dy.tap(k, o); }
    __device__ spot b_column(int64_t j) const { return {j, 0, 0}; }
    __device__ spot b_depth(int64_t k) const {
        int64_t tap = k / o, ty = tap / dy.x.taps, tx = tap - ty * dy.x.taps;
        int64_t line = ((group * o + k - tap * o) * y.taps + y.tap + ty * y.every) * x.taps;
        return {(line + x.tap + tx * x.every) * columns, 0, 0};
    }
    __device__ int64_t c_row(int64_t i) const {
        int64_t line = i / dy.x.out, n = line / dy.y.out;
        int64_t py = y.phase + (line - n * dy.y.out) * y.stride;
        return (n * y.size + py) * x.size + x.phase + (i - line * dy.x.out) * x.stride;
    }
};

struct weight_grad {
    enum { A_DEEP = 0, B_DEEP = 0 };
    int64_t rows, columns, depth, first; /* rows: o of a group */
    picture x;
    int64_t c, ldy; /* c of a group */
    int64_t group;

    __device__ void enter(int64_t piece) { group = piece; }
    __device__ spot a_row(int64_t i) const { return {group * rows + i, 0, 0}; }
    __device__ spot a_depth(int64_t k) const { return {k * ldy, 0, 0}; }
    __device__ spot b_column(int64_t j) const {
        spot p = x.tap(j, c);
        p.at += group * c;
        return p;
    }
    __device__ spot b_depth(int64_t k) const { return x.pixel(k); }
    __device__ int64_t c_row(int64_t i) const { return group * rows + i; }
};

/* ------------------------------------------------------------------------------------ the slots */

/* Of a group of s. */
struct group {
    int64_t c, o, taps; /* taps: kh * kw * c */
};

group group_of(const k_conv *s) {
    int64_t c = s->c / s->groups;
    return {c, s->o / s->groups, s->kh * s->kw * c};
}

cut forward_cut(const k_conv *s) {
    group g = group_of(s);
    return cut_of(s->n * s->oh * s->ow, g.o, g.taps, s->groups);
}

void convolve(const k_conv *s, const float *x, const float *w, ending last, float *y,
              void *scratch) {
    group g = group_of(s);
    int64_t rows = s->n * s->oh * s->ow;
    if (!rows) return;
    forward f = {rows, g.o, g.taps, 0, picture_of_x(s), g.c, 0};
    operand a = {x, s->h, s->w, by_fours(x, s->ldx, g.c)};
    operand b = {w, 1, 1, by_fours(w, 4, g.taps)};
    product_launch(f, forward_cut(s), a, b, last, y, rows, s->o, s->ldy, g.o, scratch);
}

void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias, float *y,
                  void *scratch) {
    convolve(s, x, w, ending{bias, 0}, y, scratch);
}

void conv_joined(const k_conv *s, const k_join *j, const float *x, const float *w, float *y,
                 void *scratch) {
    convolve(s, x, w, ending{j->bias, j->relu}, y, scratch);
}

data_grad data_grad_of(const k_conv *s) {
    group g = group_of(s);
    data_grad d = {};
    d.columns = g.c;
    d.y = phases_of(s->h, s->oh, s->kh, s->ph, s->sh, s->dh);
    d.x = phases_of(s->w, s->ow, s->kw, s->pw, s->sw, s->dw);
    d.n = s->n, d.o = g.o, d.ldy = s->ldy;
    d.count_y = min(s->sh, s->h), d.count_x = min(s->sw, s->w);
    return d;
}

cut data_grad_cut(const k_conv *s) {
    data_grad d = data_grad_of(s);
    return cut_of(s->n * ceil_div(s->h, s->sh) * ceil_div(s->w, s->sw), d.columns,
                  ceil_div(s->kh, d.y.every) * ceil_div(s->kw, d.x.every) * d.o,
                  s->groups * d.count_y * d.count_x);
}

void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx, void *scratch) {
    group g = group_of(s);
    int64_t rows = s->n * s->h * s->w;
    if (!rows) return;
    operand a = {dy, s->oh, s->ow, by_fours(dy, s->ldy, g.o)};
    operand b = {w, 1, 1, by_fours(w, 4, g.c)};
    product_launch(data_grad_of(s), data_grad_cut(s), a, b, ending{nullptr, 0}, dx, rows, s->c,
                   s->ldx, g.c, scratch);
}

cut weight_grad_cut(const k_conv *s) {
    group g = group_of(s);
    return cut_of(g.o, g.taps, s->n * s->oh * s->ow, s->groups);
}

void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw, void *scratch) {
    group g = group_of(s);
    weight_grad d = {g.o, g.taps, s->n * s->oh * s->ow, 0, picture_of_x(s), g.c, s->ldy, 0};
    operand a = {dy, 1, 1, by_fours(dy, s->ldy, g.o)};
    operand b = {x, s->h, s->w, by_fours(x, s->ldx, g.c)};
    product_launch(d, weight_grad_cut(s), a, b, ending{nullptr, 0}, dw, s->o, g.taps, g.taps,
                   g.taps, scratch);
}

int64_t conv_scratch(const k_conv *s, k_direction direction) {
    switch (direction) {
    case K_FORWARD:
        return cut_scratch(forward_cut(s), s->n * s->oh * s->ow * s->o);
    case K_DATA_GRAD:
        return cut_scratch(data_grad_cut(s), s->n * s->h * s->w * s->c);
    default:
        return cut_scratch(weight_grad_cut(s), s->o * group_of(s).taps);
    }
}

int64_t conv_joined_scratch(const k_conv *s, const k_join *j) {
    return j->in_gain || j->gain || j->add ? -1 : conv_scratch(s, K_FORWARD);
}

const char *conv_method(const k_conv *, k_direction) { return "tiles"; }

} // namespace

extern "C" void k_conv_cuda(k_table *t) {
    t->conv_forward = conv_forward;
    t->conv_joined = conv_joined;
    t->conv_joined_scratch = conv_joined_scratch;
    t->conv_method = conv_method;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
}
