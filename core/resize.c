/* resize.c - bilinear resizing as PyTorch's interpolate does it with align_corners=false and
 * without antialias: pixel centres are mapped, and beyond the border the border repeats.
 *
 * Contract: resize.h, and cnn_resize of cnn.h. Weights and sums are float32 in PyTorch's order
 * (along a row first, then between two rows): results agree to a few 1e-7 of the largest value, and
 * where PyTorch takes a path with fused multiply-adds for its positions, to a few 1e-6.
 *
 * Surprising: enlarging by 8, each input row is stretched once and serves 16 output rows, which is
 * why the two stretched rows at hand are kept by their number. */
#include "resize.h"
#include "core.h"

#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------- the plan */

static const int64_t MOST_VALUES = 1 << 26; /* positions are int32 and kept for a whole row */

static int axis_make(resize_axis *a, int64_t from, int64_t to, int64_t channels) {
    int64_t n = to * channels;
    *a = (resize_axis){.from = from, .to = to};
    a->first = malloc((size_t)n * sizeof *a->first);
    a->second = malloc((size_t)n * sizeof *a->second);
    a->w1 = malloc((size_t)n * sizeof *a->w1);
    a->w2 = malloc((size_t)n * sizeof *a->w2);
    if (!a->first || !a->second || !a->w1 || !a->w2) return fail("resize: out of memory");
    float scale = (float)from / (float)to;
    for (int64_t i = 0; i < n; i++) {
        float at = ((float)(i / channels) + 0.5f) * scale - 0.5f;
        if (at < 0) at = 0;
        int64_t low = (int64_t)at;
        if (low > from - 1) low = from - 1;
        float w2 = at - (float)low;
        if (w2 > 1) w2 = 1;
        a->first[i] = (int32_t)(low * channels + i % channels);
        a->second[i] = a->first[i] + (low < from - 1 ? (int32_t)channels : 0);
        a->w1[i] = 1 - w2;
        a->w2[i] = w2;
    }
    return 0;
}

static void axis_free(resize_axis *a) {
    free(a->first);
    free(a->second);
    free(a->w1);
    free(a->w2);
}

int resize_plan_make(resize_plan *p, int64_t channels, int64_t h, int64_t w, int64_t oh,
                     int64_t ow) {
    *p = (resize_plan){.channels = channels};
    int64_t most = MOST_VALUES / (channels > 0 ? channels : 1);
    if (h > MOST_VALUES || oh > MOST_VALUES || w > most || ow > most)
        return fail("resize: expected at most %lld rows and as many values in a row, got %s to %s "
                    "with %lld channels",
                    (long long)MOST_VALUES, sizes_text((const int64_t[]){h, w}, 2),
                    sizes_text((const int64_t[]){oh, ow}, 2), (long long)channels);
    if (axis_make(&p->y, h, oh, 1) == 0 && axis_make(&p->x, w, ow, channels) == 0) return 0;
    resize_plan_free(p);
    return -1;
}

void resize_plan_free(resize_plan *p) {
    axis_free(&p->y);
    axis_free(&p->x);
    *p = (resize_plan){0};
}

int64_t resize_scratch(const resize_plan *p) { return (p->x.from + 2 * p->x.to) * p->channels; }

/* ---------------------------------------------------------------------------------- the work */

static void blend(int64_t n, const float *restrict a, float wa, const float *restrict b, float wb,
                  float *restrict out) {
    for (int64_t i = 0; i < n; i++) out[i] = a[i] * wa + b[i] * wb;
}

static void stretch(const resize_axis *x, int64_t n, const float *restrict row,
                    float *restrict out) {
    for (int64_t i = 0; i < n; i++)
        out[i] = row[x->first[i]] * x->w1[i] + row[x->second[i]] * x->w2[i];
}

void resize_image(const resize_plan *p, resize_source *source, const void *image, float *out,
                  float *scratch) {
    int64_t n = p->x.to * p->channels, held[2] = {-1, -1};
    float *stretched[2] = {scratch, scratch + n}, *row = scratch + 2 * n;
    for (int64_t i = 0; i < p->y.to; i++) {
        int32_t wanted[2] = {p->y.first[i], p->y.second[i]};
        for (int k = 0; k < 2; k++) { /* rows alternate: the next one takes the place of the last */
            int slot = wanted[k] & 1;
            if (held[slot] == wanted[k]) continue;
            source(image, wanted[k], row);
            stretch(&p->x, n, row, stretched[slot]);
            held[slot] = wanted[k];
        }
        blend(n, stretched[wanted[0] & 1], p->y.w1[i], stretched[wanted[1] & 1], p->y.w2[i],
              out + i * n);
    }
}

/* ------------------------------------------------------------------------------ as an op */

typedef struct {
    const resize_plan *plan;
    const cnn_tensor *x;
    cnn_tensor *y;
    float *scratch;
} resize_job;

typedef struct {
    const cnn_tensor *x;
    int64_t n;
} image_of;

static void row_of_tensor(const void *image, int64_t y, float *row) {
    const image_of *m = image;
    const cnn_tensor *x = m->x;
    const float *from = tensor_f32(x) + m->n * x->stride[0] + y * x->stride[2];
    for (int64_t j = 0; j < x->size[3]; j++)
        for (int64_t c = 0; c < x->size[1]; c++) *row++ = from[j * x->stride[3] + c * x->stride[1]];
}

static void resize_some(void *ctx, int64_t begin, int64_t end) {
    resize_job *job = ctx;
    for (int64_t n = begin; n < end; n++) {
        image_of image = {job->x, n};
        resize_image(job->plan, row_of_tensor, &image, tensor_f32(job->y) + n * job->y->stride[0],
                     job->scratch + k_worker() * resize_scratch(job->plan));
    }
}

static int resize_on_card(const cnn_tensor *x, const cnn_tensor *y) {
    const k_images s = {.n = x->size[0],
                        .h = x->size[2],
                        .w = x->size[3],
                        .c = x->size[1],
                        .oh = y->size[2],
                        .ow = y->size[3]};
    const int64_t stride[4] = {x->stride[0], x->stride[2], x->stride[3], x->stride[1]};
    card_kernels()->resize(&s, stride, tensor_f32(x), tensor_f32(y));
    return 0;
}

static int resize_run(cnn_entry *e) {
    const cnn_tensor *x = e->in[0];
    cnn_tensor *y = e->out[0];
    resize_plan plan;
    if (tensor_numel(y) == 0) return 0;
    if (tensor_device(x) == DEV_CUDA) return resize_on_card(x, y);
    if (resize_plan_make(&plan, x->size[1], x->size[2], x->size[3], y->size[2], y->size[3]) < 0)
        return -1;
    float *scratch = entry_scratch(e, resize_scratch(&plan) * k_threads() * (int64_t)sizeof(float));
    resize_job job = {&plan, x, y, scratch};
    if (scratch) k_parallel(x->size[0], 1, resize_some, &job);
    resize_plan_free(&plan);
    return scratch ? 0 : -1;
}

static const cnn_op op_resize = {.name = "resize", .run = resize_run};

cnn_tensor *cnn_resize(cnn_tensor *x, int h, int w) {
    int scope = scope_begin();
    if (check_tensor("resize", "x", x) < 0) return scope_end(scope, NULL);
    if (x->nd != 4 || x->size[2] < 1 || x->size[3] < 1)
        return scope_end(scope,
                         fail_null("resize: expected images N x C x H x W, got %s", shape_text(x)));
    if (h < 1 || w < 1)
        return scope_end(scope, fail_null("resize: expected sizes from 1, got %dx%d", h, w));
    int64_t size[4] = {x->size[0], x->size[1], h, w};
    x = as_f32(x);
    if (!x) return scope_end(scope, NULL);
    return scope_end(scope, tape_append1(&op_resize, &x, 1,
                                         tensor_new_channels_last(size, K_F32, tensor_device(x)),
                                         NULL, 0));
}
