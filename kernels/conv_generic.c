/* conv_generic.c - 2-D convolution and its two gradients as their definitions read: the oracle.
 *
 * With i = y * s - p + k * d on each axis (input pixel i of output pixel y and tap k):
 *   y[n,y,x,o]    = bias[o] + sum over taps ky,kx and channels c of x[n,iy,ix,c] * w[o,ky,kx,c]
 *   dx[n,iy,ix,c] = sum over taps and outputs o of dy[n,y,x,o] * w[o,ky,kx,c]
 *   dw[o,ky,kx,c] = sum over pixels n,y,x of x[n,iy,ix,c] * dy[n,y,x,o]
 * where pixels outside the picture count as zeros and group g sees only its own channels. Each
 * output is one sum, gathered rather than scattered, in double and in a fixed order. */
#include "kernels.h"

typedef struct {
    const k_conv *s;
    const float *x, *w, *bias, *dy;
    float *out; /* y, dx or dw */
} conv;

/* Position n*h*w of input pixel (y * s - p + k * d), -1 in the padding. */
static int64_t input_pixel(const k_conv *s, int64_t n, int64_t y, int64_t x, int64_t ky,
                           int64_t kx) {
    int64_t iy = y * s->sh - s->ph + ky * s->dh, ix = x * s->sw - s->pw + kx * s->dw;
    return iy < 0 || iy >= s->h || ix < 0 || ix >= s->w ? -1 : (n * s->h + iy) * s->w + ix;
}

/* Position n*oh*ow of the output pixel whose tap (ky, kx) is input pixel (iy, ix), -1 for none. */
static int64_t output_pixel(const k_conv *s, int64_t n, int64_t iy, int64_t ix, int64_t ky,
                            int64_t kx) {
    int64_t y = iy + s->ph - ky * s->dh, x = ix + s->pw - kx * s->dw;
    if (y < 0 || x < 0 || y % s->sh || x % s->sw) return -1;
    y /= s->sh, x /= s->sw;
    return y >= s->oh || x >= s->ow ? -1 : (n * s->oh + y) * s->ow + x;
}

static void forward_pixels(void *ctx, int64_t begin, int64_t end) {
    const conv *t = ctx;
    const k_conv *s = t->s;
    int64_t cg = s->c / s->groups, og = s->o / s->groups;
    for (int64_t r = begin; r < end; r++)
        for (int64_t o = 0; o < s->o; o++) {
            const float *w = t->w + o * s->kh * s->kw * cg;
            double sum = t->bias ? t->bias[o] : 0;
            for (int64_t ky = 0; ky < s->kh; ky++)
                for (int64_t kx = 0; kx < s->kw; kx++, w += cg) {
                    int64_t i =
                        input_pixel(s, r / s->ow / s->oh, r / s->ow % s->oh, r % s->ow, ky, kx);
                    if (i < 0) continue;
                    const float *x = t->x + i * s->ldx + o / og * cg;
                    for (int64_t c = 0; c < cg; c++) sum += (double)x[c] * w[c];
                }
            t->out[r * s->ldy + o] = (float)sum;
        }
}

static void data_grad_pixels(void *ctx, int64_t begin, int64_t end) {
    const conv *t = ctx;
    const k_conv *s = t->s;
    int64_t cg = s->c / s->groups, og = s->o / s->groups, taps = s->kh * s->kw;
    for (int64_t i = begin; i < end; i++)
        for (int64_t c = 0; c < s->c; c++) {
            int64_t first = c / cg * og; /* output channel of c's group */
            double sum = 0;
            for (int64_t k = 0; k < taps; k++) {
                int64_t r = output_pixel(s, i / s->w / s->h, i / s->w % s->h, i % s->w, k / s->kw,
                                         k % s->kw);
                if (r < 0) continue;
                for (int64_t o = first; o < first + og; o++)
                    sum += (double)t->dy[r * s->ldy + o] * t->w[(o * taps + k) * cg + c % cg];
            }
            t->out[i * s->ldx + c] = (float)sum;
        }
}

static void weight_grad_taps(void *ctx, int64_t begin, int64_t end) {
    const conv *t = ctx;
    const k_conv *s = t->s;
    int64_t cg = s->c / s->groups, og = s->o / s->groups;
    for (int64_t j = begin; j < end; j++) {
        int64_t c = j % cg, kx = j / cg % s->kw, ky = j / cg / s->kw % s->kh;
        int64_t o = j / cg / s->kw / s->kh;
        double sum = 0;
        for (int64_t r = 0; r < s->n * s->oh * s->ow; r++) {
            int64_t i = input_pixel(s, r / s->ow / s->oh, r / s->ow % s->oh, r % s->ow, ky, kx);
            if (i < 0) continue;
            sum += (double)t->x[i * s->ldx + o / og * cg + c] * t->dy[r * s->ldy + o];
        }
        t->out[j] = (float)sum;
    }
}

static void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias,
                         float *y, void *scratch) {
    (void)scratch;
    conv t = {.s = s, .x = x, .w = w, .bias = bias, .out = y};
    k_parallel(s->n * s->oh * s->ow, 8, forward_pixels, &t);
}

static void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx,
                           void *scratch) {
    (void)scratch;
    conv t = {.s = s, .dy = dy, .w = w, .out = dx};
    k_parallel(s->n * s->h * s->w, 8, data_grad_pixels, &t);
}

static void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw,
                             void *scratch) {
    (void)scratch;
    conv t = {.s = s, .x = x, .dy = dy, .out = dw};
    k_parallel(s->o * s->kh * s->kw * (s->c / s->groups), 8, weight_grad_taps, &t);
}

static int64_t conv_scratch(const k_conv *s, k_direction direction) {
    (void)s, (void)direction;
    return 0;
}

static const char *conv_method(const k_conv *s, k_direction direction) {
    (void)s, (void)direction;
    return "loops";
}

void k_conv_generic(k_table *t) {
    t->conv_forward = conv_forward;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
    t->conv_method = conv_method;
}

static const char *forced;

void k_force_conv(const char *method) { forced = method; }
const char *k_forced_conv(void) { return forced; }
