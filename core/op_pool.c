/* op_pool.c - maximum and average pooling of N C H W.
 *
 * Contract: every window holds at least one real pixel, hence padding <= kernel / 2; averages count
 * the padding as zeros. y is stored channels-last.
 *
 * Surprising: max_pool2d does not keep x for its gradient but the number of the winning tap, a byte
 * for each output, and only when a gradient will be wanted. */
#include "layers.h"

enum { MAX_TAPS = 256 }; /* what a byte can count */

static k_pool pool_of(cnn_entry *e, const cnn_tensor *x, const cnn_tensor *y) {
    k_pool s = *(const k_pool *)entry_attr(e);
    s.ldx = row_stride(x);
    s.ldy = row_stride(y);
    return s;
}

static int check_pool(const char *op, const cnn_tensor *x, const window *v, k_pool *s) {
    int64_t oh, ow;
    if (check_tensor(op, "x", x) || check_window(op, x, v, &oh, &ow)) return -1;
    if (v->ph > v->kh / 2 || v->pw > v->kw / 2)
        return fail("%s: expected a padding of at most half the kernel, got %s (kernel %s)", op,
                    sizes_text((const int64_t[]){v->ph, v->pw}, 2),
                    sizes_text((const int64_t[]){v->kh, v->kw}, 2));
    *s = (k_pool){.n = x->size[0],
                  .h = x->size[2],
                  .w = x->size[3],
                  .c = x->size[1],
                  .oh = oh,
                  .ow = ow,
                  .kh = v->kh,
                  .kw = v->kw,
                  .sh = v->sh,
                  .sw = v->sw,
                  .ph = v->ph,
                  .pw = v->pw};
    return 0;
}

/* The output of pooling x, and likewise the gradient of its input from that of its output, x. */
static cnn_tensor *new_images(const k_pool *s, int64_t h, int64_t w, const cnn_tensor *x) {
    return tensor_new_channels_last((const int64_t[]){s->n, s->c, h, w}, tensor_dtype(x),
                                    tensor_device(x));
}

/* ------------------------------------------------------------------------------------- maximum */

/* in: dy, index; out: dx */
static int max_pool_grad_run(cnn_entry *e) {
    k_pool s = pool_of(e, e->out[0], e->in[0]);
    entry_kernels(e)->max_pool_grad(&s, tensor_f32(e->in[0]), tensor_ptr(e->in[1]),
                                    tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_max_pool_grad = {
    .name = "max_pool2d_grad", .run = max_pool_grad_run, .strided = 1};

/* in: x; out: y and, for the gradient, index */
static int max_pool_run(cnn_entry *e) {
    k_pool s = pool_of(e, e->in[0], e->out[0]);
    entry_kernels(e)->max_pool(&s, tensor_f32(e->in[0]), tensor_f32(e->out[0]),
                               e->n_out > 1 ? tensor_ptr(e->out[1]) : 0);
    return 0;
}

static int max_pool_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const k_pool *s = entry_attr(e);
    cnn_tensor *in[] = {as_channels_last(as_activation(dy[0])), e->out[1]};
    if (!in[0]) return -1;
    dx[0] = tape_append1(&op_max_pool_grad, in, 2, new_images(s, s->h, s->w, in[0]), s, sizeof *s);
    return dx[0] ? 0 : -1;
}

static const cnn_op op_max_pool = {.name = "max_pool2d",
                                   .run = max_pool_run,
                                   .gradient = max_pool_gradient,
                                   .saves_out = 1 << 1,
                                   .strided = 1};

cnn_tensor *cnn_max_pool2d(cnn_tensor *x, int kh, int kw, int sh, int sw, int ph, int pw) {
    int scope = scope_begin();
    window v = {kh, kw, sh, sw, ph, pw, 1, 1};
    k_pool s;
    if (check_pool("max_pool2d", x, &v, &s)) return scope_end(scope, 0);
    if (s.kh * s.kw > MAX_TAPS)
        return scope_end(scope, fail_null("max_pool2d: expected a kernel of at most %d pixels, got "
                                          "%dx%d (pool twice with smaller ones)",
                                          MAX_TAPS, kh, kw));
    x = as_channels_last(as_activation(x));
    if (!x) return scope_end(scope, 0);
    int wants_index = x->requires_grad && cnn_grad_enabled();
    cnn_dev device = tensor_device(x);
    cnn_tensor *out[2] = {new_images(&s, s.oh, s.ow, x), 0};
    if (wants_index) out[1] = tensor_new((const int64_t[]){s.n, s.oh, s.ow, s.c}, 4, K_U8, device);
    if (!out[0] || (wants_index && !out[1]) ||
        tape_append(&op_max_pool, &x, 1, out, 1 + wants_index, &s, sizeof s))
        return scope_end(scope, 0);
    return scope_end(scope, out[0]);
}

/* ------------------------------------------------------------------------------------- average */

/* in: dy; out: dx */
static int avg_pool_grad_run(cnn_entry *e) {
    k_pool s = pool_of(e, e->out[0], e->in[0]);
    entry_kernels(e)->avg_pool_grad(&s, tensor_f32(e->in[0]), tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_avg_pool_grad = {
    .name = "avg_pool2d_grad", .run = avg_pool_grad_run, .strided = 1};

/* in: x; out: y */
static int avg_pool_run(cnn_entry *e) {
    k_pool s = pool_of(e, e->in[0], e->out[0]);
    entry_kernels(e)->avg_pool(&s, tensor_f32(e->in[0]), tensor_f32(e->out[0]));
    return 0;
}

static int avg_pool_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const k_pool *s = entry_attr(e);
    cnn_tensor *g = as_channels_last(as_activation(dy[0]));
    if (!g) return -1;
    dx[0] = tape_append1(&op_avg_pool_grad, &g, 1, new_images(s, s->h, s->w, g), s, sizeof *s);
    return dx[0] ? 0 : -1;
}

static const cnn_op op_avg_pool = {
    .name = "avg_pool2d", .run = avg_pool_run, .gradient = avg_pool_gradient, .strided = 1};

static const cnn_op op_adaptive_avg_pool = {.name = "adaptive_avg_pool2d",
                                            .run = avg_pool_run,
                                            .gradient = avg_pool_gradient,
                                            .strided = 1};

static cnn_tensor *average(const cnn_op *op, cnn_tensor *x, const k_pool *s) {
    x = as_channels_last(as_activation(x));
    if (!x) return 0;
    return tape_append1(op, &x, 1, new_images(s, s->oh, s->ow, x), s, sizeof *s);
}

cnn_tensor *cnn_avg_pool2d(cnn_tensor *x, int kh, int kw, int sh, int sw, int ph, int pw) {
    int scope = scope_begin();
    window v = {kh, kw, sh, sw, ph, pw, 1, 1};
    k_pool s;
    if (check_pool("avg_pool2d", x, &v, &s)) return scope_end(scope, 0);
    return scope_end(scope, average(&op_avg_pool, x, &s));
}

cnn_tensor *cnn_adaptive_avg_pool2d(cnn_tensor *x, int oh, int ow) {
    static const char op[] = "adaptive_avg_pool2d";
    int scope = scope_begin();
    if (check_tensor(op, "x", x)) return scope_end(scope, 0);
    if (x->nd != 4 || x->size[2] < 1 || x->size[3] < 1)
        return scope_end(scope, fail_null("%s: expected x as NxCxHxW of at least 1x1, got %s", op,
                                          shape_text(x)));
    if (oh < 1 || ow < 1)
        return scope_end(
            scope, fail_null("%s: expected an output of at least 1x1, got %dx%d", op, oh, ow));
    k_pool s = {
        .n = x->size[0], .h = x->size[2], .w = x->size[3], .c = x->size[1], .oh = oh, .ow = ow};
    return scope_end(scope, average(&op_adaptive_avg_pool, x, &s));
}
