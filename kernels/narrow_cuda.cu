/* narrow_cuda.cu - matrices of float32 to bf16 and back, and, with that, convolutions and products
 * of bf16 by the kernels for float32.
 *
 * Contract: card.h; kernels.h for convolutions and products. Rounds to the nearest, ties to even,
 * and a NaN stays a NaN, as from_f32 does. Both ways wait for memory: 6 bytes an element. A thread
 * moves eight neighbours of a row, 16 bytes on the bf16 side, where rows begin at multiples of
 * that; else one by one.
 *
 * Surprising: our own convolution knows nothing of bf16. It computes with FP32 units, so slowly
 * that a few passes more do not matter; who wants speed has cuDNN and cuBLAS. */
#include "four_cuda.h"

enum { THREADS = 256, EIGHT = 8 };

namespace {

/* ------------------------------------------------------------------------------------- the passes
 */

template <class From, class To> __device__ inline void move_eight(const From *from, To *to) {
    float v[EIGHT];
    k_take(from, v);
    k_give(to, v);
}

/* An item is eight columns of a row, of which a row has `eights`. */
template <class From, class To>
__global__ void move_kernel(int64_t rows, int64_t c, int64_t eights, bool aligned, int64_t ldx,
                            const From *x, int64_t ldy, To *y) {
    for (int64_t i = k_first(); i < rows * eights; i += k_stride()) {
        int64_t row = i / eights, column = i % eights * EIGHT, left = c - column;
        const From *from = x + row * ldx + column;
        To *to = y + row * ldy + column;
        if (aligned && left >= EIGHT)
            move_eight(from, to);
        else
            for (int k = 0; k < EIGHT && k < left; k++) k_put(to + k, k_wide(from[k]));
    }
}

template <class From, class To>
void move_rows(int64_t rows, int64_t c, int64_t ldx, const From *x, int64_t ldy, To *y) {
    if (!rows || !c) return;
    if (ldx == c && ldy == c) c = ldx = ldy = rows * c, rows = 1;
    int64_t eights = (c + EIGHT - 1) / EIGHT;
    bool aligned = k_aligned_to(16, x, y) && (rows == 1 || (ldx % EIGHT == 0 && ldy % EIGHT == 0));
    K_LAUNCH((move_kernel<From, To>), k_blocks(rows * eights, THREADS), THREADS, rows, c, eights,
             aligned, ldx, x, ldy, y);
}

/* ------------------------------------------------------------------------------- convolutions
 * Scratch: the operands and results of bf16 as dense float32 rows, then what the kernel for float32
 * wants. */

k_table wide;

/* A piece of the scratch memory for so many floats; `at` moves on. */
float *piece(char **at, int64_t floats) {
    float *p = (float *)*at;
    *at += (floats + 63) / 64 * 256;
    return p;
}

struct widened {
    k_conv s;
    int64_t pixels, outputs, weights;
    char *rest; /* of the scratch memory */
    float *x, *w, *y, *bias;
    widened(const k_conv *given, void *memory) : s(*given), rest((char *)memory) {
        s.ldx = s.c;
        s.ldy = s.o;
        pixels = s.n * s.h * s.w;
        outputs = s.n * s.oh * s.ow;
        weights = s.o * s.kh * s.kw * (s.c / s.groups);
        x = piece(&rest, pixels * s.c);
        w = piece(&rest, weights);
        y = piece(&rest, outputs * s.o);
        bias = piece(&rest, s.o);
    }
};

int64_t conv_scratch(const k_conv *s, k_direction direction) {
    widened v(s, 0);
    return (int64_t)(intptr_t)v.rest + wide.conv_scratch(&v.s, direction);
}

int64_t conv_joined_scratch(const k_conv *s, const k_join *j) {
    widened v(s, 0);
    int64_t more = wide.conv_joined_scratch(&v.s, j);
    return more < 0 ? more : (int64_t)(intptr_t)v.rest + more;
}

void conv_joined(const k_conv *s, const k_join *j, const float *x, const float *w, float *y,
                 void *scratch) {
    widened v(s, scratch);
    k_widen_rows(v.pixels, s->c, s->ldx, x, s->c, v.x);
    k_widen_rows(1, v.weights, v.weights, w, v.weights, v.w);
    k_join in_f32 = *j;
    if (j->bias) {
        k_widen_rows(1, s->o, s->o, j->bias, s->o, v.bias);
        in_f32.bias = v.bias;
    }
    wide.conv_joined(&v.s, &in_f32, v.x, v.w, v.y, v.rest);
    k_narrow_rows(v.outputs, s->o, s->o, v.y, s->ldy, y);
}

void conv_forward(const k_conv *s, const float *x, const float *w, const float *bias, float *y,
                  void *scratch) {
    k_join j = {};
    j.bias = bias;
    conv_joined(s, &j, x, w, y, scratch);
}

void conv_data_grad(const k_conv *s, const float *dy, const float *w, float *dx, void *scratch) {
    widened v(s, scratch);
    k_widen_rows(v.outputs, s->o, s->ldy, dy, s->o, v.y);
    k_widen_rows(1, v.weights, v.weights, w, v.weights, v.w);
    wide.conv_data_grad(&v.s, v.y, v.w, v.x, v.rest);
    k_narrow_rows(v.pixels, s->c, s->c, v.x, s->ldx, dx);
}

void conv_weight_grad(const k_conv *s, const float *x, const float *dy, float *dw, void *scratch) {
    widened v(s, scratch);
    k_widen_rows(v.pixels, s->c, s->ldx, x, s->c, v.x);
    k_widen_rows(v.outputs, s->o, s->ldy, dy, s->o, v.y);
    wide.conv_weight_grad(&v.s, v.x, v.y, v.w, v.rest);
    k_narrow_rows(1, v.weights, v.weights, v.w, v.weights, dw);
}

/* ----------------------------------------------------------------------------------- products */

struct widened_product {
    k_gemm g;
    int64_t a_rows, b_rows;
    char *rest;
    float *a, *b;
    widened_product(const k_gemm *given, void *memory) : g(*given), rest((char *)memory) {
        a_rows = g.ta ? g.k : g.m;
        b_rows = g.tb ? g.n : g.k;
        g.lda = g.ta ? g.m : g.k;
        g.ldb = g.tb ? g.k : g.n;
        a = piece(&rest, a_rows * g.lda);
        b = piece(&rest, b_rows * g.ldb);
        g.lda += !g.lda; /* of nothing */
        g.ldb += !g.ldb;
    }
};

int64_t gemm_scratch(const k_gemm *g) {
    widened_product v(g, 0);
    return (int64_t)(intptr_t)v.rest + wide.gemm_scratch(&v.g);
}

template <bool RELU>
void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
          void *scratch) {
    widened_product v(g, scratch);
    k_widen_rows(v.a_rows, g->ta ? g->m : g->k, g->lda, a, v.g.lda, v.a);
    k_widen_rows(v.b_rows, g->tb ? g->k : g->n, g->ldb, b, v.g.ldb, v.b);
    (RELU ? wide.gemm_relu : wide.gemm)(&v.g, v.a, v.b, bias, c, v.rest);
}

} // namespace

extern "C" void k_narrow_rows(int64_t rows, int64_t c, int64_t ldx, const float *x, int64_t ldy,
                              void *y) {
    move_rows(rows, c, ldx, x, ldy, (k_bf16 *)y);
}

extern "C" void k_widen_rows(int64_t rows, int64_t c, int64_t ldx, const void *x, int64_t ldy,
                             float *y) {
    move_rows(rows, c, ldx, (const k_bf16 *)x, ldy, y);
}

extern "C" void k_product_narrow_cuda(k_table *t) {
    wide = *t;
    t->conv_forward = conv_forward;
    t->conv_joined = conv_joined;
    t->conv_joined_scratch = conv_joined_scratch;
    t->conv_data_grad = conv_data_grad;
    t->conv_weight_grad = conv_weight_grad;
    t->conv_scratch = conv_scratch;
    t->gemm = gemm<false>;
    t->gemm_relu = gemm<true>;
    t->gemm_scratch = gemm_scratch;
}
