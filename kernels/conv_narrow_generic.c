/* conv_narrow_generic.c - convolutions of bf16 by the kernels for float32, on any CPU.
 *
 * A few pictures at a time are widened into scratch memory, the float32 kernel of the variant in
 * force makes their result, and that is rounded on its way out; a weight gradient is summed over
 * the pieces in float32 and rounded once. How many pictures are a piece depends on the shapes
 * alone, so that any number of threads gives the same bits.
 *
 * Surprising: which float32 kernels these are is read from the table that is to be overlaid, as the
 * narrow table starts as a copy of the wide one. */
#include "widen.h"

enum { PIECE = 2 << 20 }; /* floats of x and y, about: they stay in the shared cache */

static k_table wide;

static int64_t pixels_in(const k_conv *s) { return s->n * s->h * s->w; }
static int64_t pixels_out(const k_conv *s) { return s->n * s->oh * s->ow; }
static int64_t weights_of(const k_conv *s) { return s->o * s->kh * s->kw * (s->c / s->groups); }

/* `n` pictures of s, in dense rows. */
static k_conv dense(const k_conv *s, int64_t n) {
    k_conv d = *s;
    d.n = n, d.ldx = s->c, d.ldy = s->o;
    return d;
}

static int64_t pictures_of_a_piece(const k_conv *s) {
    int64_t picture = s->h * s->w * s->c + s->oh * s->ow * s->o;
    int64_t n = PIECE / (picture + 1) + 1;
    return n < s->n ? n : s->n;
}

/* Where the operands lie as floats: x and y of a piece; sum: of dw. */
typedef struct {
    int64_t n;
    float *x, *w, *y, *bias, *sum;
    void *rest;
    int64_t used;
} widened;

static widened widened_of(const k_conv *s, void *scratch) {
    widened v = {.n = pictures_of_a_piece(s)};
    k_conv d = dense(s, v.n);
    v.x = piece_of(scratch, &v.used, pixels_in(&d) * s->c);
    v.y = piece_of(scratch, &v.used, pixels_out(&d) * s->o);
    v.w = piece_of(scratch, &v.used, weights_of(s));
    v.sum = piece_of(scratch, &v.used, weights_of(s));
    v.bias = piece_of(scratch, &v.used, s->o);
    v.rest = (char *)scratch + v.used;
    return v;
}

static int64_t conv_scratch(const k_conv *s, k_direction way) {
    widened v = widened_of(s, 0);
    k_conv whole = dense(s, v.n), last = dense(s, v.n ? s->n % v.n : 0);
    int64_t a = wide.conv_scratch(&whole, way), b = wide.conv_scratch(&last, way);
    return v.used + (a > b ? a : b);
}

static void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias,
                         float *y, void *scratch) {
    widened v = widened_of(s, scratch);
    widen_rows(1, weights_of(s), (const void *)w, weights_of(s), v.w);
    if (bias) widen_rows(1, s->o, (const void *)bias, s->o, v.bias);
    const uint16_t *from = (const void *)x;
    uint16_t *to = (void *)y;
    for (int64_t i = 0; i < s->n; i += v.n) {
        k_conv d = dense(s, s->n - i < v.n ? s->n - i : v.n);
        widen_rows(pixels_in(&d), s->c, from, s->ldx, v.x);
        wide.conv_forward(&d, v.x, v.w, bias ? v.bias : 0, v.y, v.rest);
        round_rows(pixels_out(&d), s->o, v.y, to, s->ldy);
        from += pixels_in(&d) * s->ldx, to += pixels_out(&d) * s->ldy;
    }
}

static void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                           void *scratch) {
    widened v = widened_of(s, scratch);
    widen_rows(1, weights_of(s), (const void *)w, weights_of(s), v.w);
    const uint16_t *from = (const void *)dy;
    uint16_t *to = (void *)dx;
    for (int64_t i = 0; i < s->n; i += v.n) {
        k_conv d = dense(s, s->n - i < v.n ? s->n - i : v.n);
        widen_rows(pixels_out(&d), s->o, from, s->ldy, v.y);
        wide.conv_data_grad(&d, v.y, v.w, v.x, v.rest);
        round_rows(pixels_in(&d), s->c, v.x, to, s->ldx);
        from += pixels_out(&d) * s->ldy, to += pixels_in(&d) * s->ldx;
    }
}

typedef struct {
    float *sum;
    const float *piece;
} weight_sum;

static void add_piece(void *ctx, int64_t begin, int64_t end) {
    const weight_sum *p = ctx;
    for (int64_t i = begin; i < end; i++) p->sum[i] += p->piece[i];
}

static void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                             void *scratch) {
    widened v = widened_of(s, scratch);
    const uint16_t *from_x = (const void *)x, *from_dy = (const void *)dy;
    int64_t i = 0;
    do {
        k_conv d = dense(s, s->n - i < v.n ? s->n - i : v.n);
        widen_rows(pixels_in(&d), s->c, from_x, s->ldx, v.x);
        widen_rows(pixels_out(&d), s->o, from_dy, s->ldy, v.y);
        wide.conv_weight_grad(&d, v.x, v.y, i ? v.w : v.sum, v.rest);
        if (i) k_parallel(weights_of(s), MOVED, add_piece, &(weight_sum){v.sum, v.w});
        from_x += pixels_in(&d) * s->ldx, from_dy += pixels_out(&d) * s->ldy;
        i += v.n;
    } while (i < s->n);
    round_rows(1, weights_of(s), v.sum, (void *)dw, weights_of(s));
}

void k_conv_narrow_generic(k_table *t) {
    wide = *t;
    t->conv_forward = conv_forward;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
    t->conv_joined = 0;
    t->conv_joined_scratch = 0;
}
