/* pictures.c - a data set that lies on the card, and batches that are made there.
 *
 * The bytes go up once for a data set (Fashion-MNIST: 55 MB); an order of them is shuffled on the
 * card, from the same numbers as cnn_permutation. A batch is two tensors without memory: one kernel
 * gathers, resizes and scales the pictures when they are first used, within a captured step even
 * then, so that the host sends 8 bytes a batch. A cast of pictures that are not there yet to bf16
 * is another such batch, so that where they are used as bf16 alone they are made so.
 *
 * Surprising: a batch that nobody has used yet rests on the order as it is. While there is one the
 * order cannot be shuffled anew; cnn_pictures_shuffle then answers 1. */
#include "data.h"

#include <stdlib.h>

struct cnn_pictures {
    int refs; /* the owner's, and one for each tensor that is not filled yet */
    int64_t images;
    int h, w;
    cnn_dataset *data;
    int32_t *order; /* on the card; NULL: as stored */
};

/* ------------------------------------------------------------------------------------- the bytes
 */

/* Pixels, then labels, on the card; NULL with the error set. */
static uint8_t *bytes_on_card(cnn_dataset *d) {
    int64_t pixels = d->count * d->channels * d->height * d->width;
    if (d->on_card) return d->on_card;
    uint8_t *p = card_take(pixels + d->count);
    if (p && (card_asked("pictures", card()->upload(p, d->pixels, pixels)) < 0 ||
              card_asked("pictures", card()->upload(p + pixels, d->labels, d->count)) < 0)) {
        device_give(DEV_CUDA, p, 0);
        p = 0;
    }
    return d->on_card = p;
}

/* ------------------------------------------------------------------------------------- the order
 */

cnn_pictures *cnn_pictures_new(cnn_dataset *d, int64_t images, int h, int w) {
    error_clear();
    if (images < 0 || images > d->count || h < 1 || w < 1)
        return fail_null("pictures: expected 0 to %lld images and sizes from 1, got %lld of %dx%d",
                         (long long)d->count, (long long)images, h, w);
    if (card_open("pictures", -1) < 0 || !bytes_on_card(d)) return 0;
    cnn_pictures *p = calloc(1, sizeof *p);
    if (!p) return fail_null("pictures: out of memory");
    *p = (cnn_pictures){.refs = 1, .images = images, .h = h, .w = w, .data = d};
    d->refs++;
    return p;
}

int cnn_pictures_shuffle(cnn_pictures *p, uint64_t seed, uint64_t stream) {
    error_clear();
    const k_table *k = card_kernels();
    const k_draw draw = {seed, stream};
    if (p->refs > 1) return 1;
    if (!p->order && !(p->order = card_take(p->images * (int64_t)sizeof *p->order))) return -1;
    void *scratch = card_take(k->shuffle_scratch(p->images));
    if (!scratch) return -1;
    k->shuffle(p->images, &draw, p->order, scratch);
    device_give(DEV_CUDA, scratch, 0);
    return card_check("pictures");
}

void pictures_release(cnn_pictures *p) {
    if (!p || --p->refs) return;
    device_give(DEV_CUDA, p->order, 0);
    cnn_dataset_release(p->data);
    free(p);
}

void cnn_pictures_release(cnn_pictures *p) { pictures_release(p); }

/* ------------------------------------------------------------------------------------- a batch */

static void lazy(cnn_tensor *x, cnn_fill_kind fill, cnn_pictures *p, int64_t first) {
    x->storage->fill = fill;
    x->storage->from = p;
    x->storage->first = first;
    p->refs++;
    cnn_keep(x);
}

int cnn_pictures_batch(cnn_pictures *p, int64_t first, int64_t count, cnn_tensor **x,
                       cnn_tensor **y) {
    *x = *y = 0;
    if (first < 1 || count < 0 || first - 1 + count > p->images)
        return fail("pictures: expected positions from 1 to %lld, got %lld to %lld",
                    (long long)p->images, (long long)first, (long long)(first + count - 1));
    int64_t size[4] = {count, p->data->channels, p->h, p->w};
    int scope = scope_begin();
    cnn_tensor *images = tensor_new_channels_last(size, K_F32, DEV_CUDA);
    cnn_tensor *labels = tensor_new(size, 1, K_I32, DEV_CUDA);
    if (images && labels) {
        lazy(images, FILL_IMAGES, p, first - 1);
        lazy(labels, FILL_LABELS, p, first - 1);
        *x = tensor_retain(images);
        *y = tensor_retain(labels);
    }
    scope_end(scope, 0);
    return *x ? 0 : -1;
}

cnn_tensor *pictures_narrow(const cnn_tensor *x) {
    const cnn_storage *s = x->storage;
    if (s->fill != FILL_IMAGES || s->data || s->version || x->requires_grad) return 0;
    if (x->offset || tensor_numel(x) != s->count) return 0;
    cnn_tensor *y = tensor_new_like(x, K_BF16);
    if (!y || !tensor_same_dense_layout(x, y)) return 0;
    lazy(y, FILL_IMAGES, s->from, s->first);
    return y;
}

k_images pictures_shape(const cnn_storage *s) {
    const cnn_pictures *p = s->from;
    const cnn_dataset *d = p->data;
    int64_t each = s->fill == FILL_LABELS ? 1 : d->channels * p->h * p->w;
    return (k_images){.n = each > 0 ? s->count / each : 0,
                      .first = s->first,
                      .h = d->height,
                      .w = d->width,
                      .c = d->channels,
                      .oh = p->h,
                      .ow = p->w};
}

void pictures_at(const cnn_storage *s, const void *at[2]) {
    at[0] = s->from->data->on_card;
    at[1] = s->from->order;
}

void pictures_fill(cnn_storage *s) {
    const cnn_pictures *p = s->from;
    const cnn_dataset *d = p->data;
    const uint8_t *pixels = d->on_card;
    const k_images shape = pictures_shape(s);
    const uint8_t *labels = pixels + d->count * d->channels * d->height * d->width;
    const k_table *k = s->dtype == K_BF16 ? card_narrow_kernels() : card_kernels();
    int images = s->fill == FILL_IMAGES;
    k->images(&shape, pixels, labels, p->order, images ? s->data : 0, images ? 0 : s->data);
}
