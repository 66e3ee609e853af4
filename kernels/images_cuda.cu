/* images_cuda.cu - the pictures of a batch out of a data set's bytes, which lie on the card;
 * pictures of floats, resized.
 *
 * Contract: images_generic.c, bit for bit (so nothing is fused: __fmul_rn, __fadd_rn). Which
 * pictures they are may change from one run of a recorded step to the next (k_live).
 *
 * A thread makes 4 floats of the batch, which is one long array to it: 4 bytes written a float, or
 * 2 of bf16, and each byte of a picture read once from memory (neighbours share caches). Some 50
 * instructions a float weigh as much as the writing; a batch of 128 pictures of 224 x 224 x 3 is 77
 * MB.
 *
 * Surprising: a byte is divided by 255 without a division, see value(). */
#include "four_cuda.h"

enum { THREADS = 256 };

/* byte / 255, rounded as a division rounds it: the product with the reciprocal, corrected once.
 * Right for each of the 256 bytes, as trying them shows. */
static __device__ float value(float x) { return x; }
static __device__ float value(uint8_t byte) {
    const float reciprocal = 1 / 255.0f;
    float x = (float)byte, y = __fmul_rn(x, reciprocal);
    return fmaf(fmaf(-255.0f, y, x), reciprocal, y);
}

/* An output position lies between these two inputs, with these weights. */
template <class I> struct between {
    I first, second; /* times the distance of neighbours */
    float w1, w2;
};

/* Position i of an axis of `from` pixels that are `apart` values apart; scale: from / to. */
template <class I> static __device__ between<I> axis(I i, I from, float scale, I apart) {
    float at = __fadd_rn(__fmul_rn((float)i + 0.5f, scale), -0.5f);
    if (at < 0) at = 0;
    I low = (I)at;
    if (low > from - 1) low = from - 1;
    float w2 = at - (float)low;
    if (w2 > 1) w2 = 1;
    return {low * apart, (low < from - 1 ? low + 1 : low) * apart, 1 - w2, w2};
}

static __device__ float blend(float a, float wa, float b, float wb) {
    return __fadd_rn(__fmul_rn(a, wa), __fmul_rn(b, wb));
}

template <class I, class T> static __device__ float along(const T *row, const between<I> &a) {
    return blend(value(row[a.first]), a.w1, value(row[a.second]), a.w2);
}

/* Which picture of the data set is number i of the batch. */
static __device__ int64_t picture_of(const int32_t *order, int64_t i) {
    return order ? order[i] : i;
}

/* How far pictures, rows, pixels and channels of the source are apart. */
struct distances {
    int64_t picture, row, pixel, channel;
};

/* Floats i .. i + 3 of the batch, those below n. I holds any of their numbers, and any place in a
 * picture. `order` and `pixels` begin with the batch. */
template <class I, class T>
static __device__ k_four four_floats(const k_images &s, const distances &d, int64_t first,
                                     const T *pixels, const int32_t *order, I i, I n) {
    const I h = (I)s.h, w = (I)s.w, channels = (I)s.c, oh = (I)s.oh, ow = (I)s.ow;
    const float scale_y = (float)s.h / (float)s.oh, scale_x = (float)s.w / (float)s.ow;
    I rest = i / channels, c = i - rest * channels;
    I row = rest / ow, ox = rest - row * ow;
    I picture = row / oh, oy = row - picture * oh;
    between<I> down = {}, across = {};
    const T *from = pixels;
    const I apart = (I)d.channel;
    k_four f = {};
    for (int k = 0; k < 4 && i + k < n; k++) {
        bool new_pixel = !k || !c, new_row = !k || (!c && !ox),
             new_picture = new_row && (!k || !oy);
        if (new_picture) from = pixels + picture_of(order, first + picture) * d.picture;
        if (new_row) down = axis(oy, h, scale_y, (I)d.row);
        if (new_pixel) across = axis(ox, w, scale_x, (I)d.pixel);
        f.v[k] = blend(along(from + down.first + c * apart, across), down.w1,
                       along(from + down.second + c * apart, across), down.w2);
        if (++c < channels) continue;
        c = 0;
        if (++ox < ow) continue;
        ox = 0;
        if (++oy < oh) continue;
        oy = 0;
        picture++;
    }
    return f;
}

template <class I, class T>
__global__ void images_kernel(k_images s, const k_images *live, const uint8_t *pixels,
                              const uint8_t *labels, const int32_t *order, T *x, int32_t *y,
                              int aligned) {
    const int64_t first = live ? live->first : s.first;
    const int64_t n = x ? s.n * s.oh * s.ow * s.c : 0;
    const distances d = {s.h * s.w * s.c, s.w * s.c, s.c, 1};
    for (int64_t i = 4 * k_first(); i < n; i += 4 * k_stride())
        k_four_store(x, i, n, aligned, four_floats<I>(s, d, first, pixels, order, (I)i, (I)n));
    for (int64_t i = k_first(); y && i < s.n; i += k_stride())
        y[i] = labels[picture_of(order, first + i)] + 1;
}

template <class T>
static void images(const k_images *s, const uint8_t *pixels, const uint8_t *labels,
                   const int32_t *order, float *x_, int32_t *y) {
    T *x = (T *)x_;
    int64_t floats = x ? s->n * s->oh * s->ow * s->c : 0, bytes = s->h * s->w * s->c;
    int64_t threads = (floats + 3) / 4 > s->n ? (floats + 3) / 4 : s->n;
    if (s->n <= 0 || (!floats && !y)) return;
    auto kernel = floats < INT32_MAX - 4 && bytes < INT32_MAX ? images_kernel<int32_t, T>
                                                              : images_kernel<int64_t, T>;
    K_LAUNCH(kernel, k_blocks(threads, THREADS), THREADS, *s, (const k_images *)k_live(), pixels,
             labels, order, x, y, k_aligned_to(4 * sizeof(T), x));
}

template <class I>
__global__ void resize_kernel(k_images s, distances d, const float *x, float *y, int aligned) {
    const int64_t n = s.n * s.oh * s.ow * s.c;
    for (int64_t i = 4 * k_first(); i < n; i += 4 * k_stride())
        k_four_store(y, i, n, aligned, four_floats<I>(s, d, 0, x, (const int32_t *)0, (I)i, (I)n));
}

static void resize(const k_images *s, const int64_t stride[4], const float *x, float *y) {
    int64_t floats = s->n * s->oh * s->ow * s->c;
    distances d = {stride[0], stride[1], stride[2], stride[3]};
    int64_t farthest = s->h * d.row + s->w * d.pixel + s->c * d.channel;
    if (floats <= 0) return;
    auto kernel = floats < INT32_MAX - 4 && farthest < INT32_MAX ? resize_kernel<int32_t>
                                                                 : resize_kernel<int64_t>;
    K_LAUNCH(kernel, k_blocks((floats + 3) / 4, THREADS), THREADS, *s, d, x, y,
             k_aligned_to(16, y));
}

extern "C" void k_images_cuda(k_table *t) {
    t->images = images<float>;
    t->resize = resize;
}

extern "C" void k_images_narrow_cuda(k_table *t) { t->images = images<k_bf16>; }
