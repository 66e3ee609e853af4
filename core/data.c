/* data.c - image data sets in memory: IDX files, or tensors.
 *
 * Contract: cnn.h. Pixels stay the bytes that they were, channels innermost; labels count from 0
 * here and from 1 outside. Everything is checked when the set is made, so the loader cannot fail on
 * its contents: sizes against the header, labels against the number of classes.
 *
 * Surprising: a header's sizes are not believed before the file is seen to be long enough, or four
 * damaged bytes would ask for terabytes. */
#include "data.h"
#include "inflate.h"
#include "walk.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 256 }; /* labels are bytes */

/* -------------------------------------------------------------------------------- IDX files
 * Two zero bytes, the type (8: unsigned bytes), the number of axes, each size in four bytes with
 * the highest first, then the values. */

typedef struct {
    int64_t size[3];
    uint8_t *values;
} idx;

static int64_t big_endian(const uint8_t *p) {
    return (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static int idx_header(inflate_file *s, const char *file, const char *what, int axes, idx *x) {
    uint8_t head[4 + 4 * 3] = {0};
    int64_t length = 4 + 4 * axes, got = inflate_read(s, head, length);
    if (got < 0) return -1;
    if (got < length)
        return fail("%s: expected IDX %s, got %lld bytes in all", file, what, (long long)got);
    if (big_endian(head) != 0x800 + axes)
        return fail("%s: expected IDX %s, which start with %08x, got %08llx", file, what,
                    (unsigned)(0x800 + axes), (long long)big_endian(head));
    for (int i = 0; i < axes; i++) x->size[i] = big_endian(head + 4 + 4 * i);
    return 0;
}

static int idx_values(inflate_file *s, const char *file, const char *what, int axes, idx *x) {
    int64_t bytes = 1, head = 4 + 4 * axes, most = inflate_most(s);
    int huge = 0;
    for (int i = 0; i < axes; i++)
        if (__builtin_mul_overflow(bytes, x->size[i], &bytes)) bytes = INT64_MAX, huge = 1;
    const char *sizes = sizes_text(x->size, axes);
    if (bytes == 0) return fail("%s: expected %s, got none (%s)", file, what, sizes);
    if (bytes > most - head)
        return fail("%s: expected %s%lld bytes of %s (%s) after a header of %lld, "
                    "the file has at most %lld",
                    file, huge ? "over " : "", (long long)bytes, what, sizes, (long long)head,
                    (long long)most);
    x->values = malloc((size_t)bytes);
    if (!x->values) return fail("%s: out of memory for %s bytes", file, sizes);
    int64_t got = inflate_read(s, x->values, bytes);
    if (got >= 0 && got < bytes)
        return fail("%s: expected %lld bytes of %s (%s), the file ends after %lld", file,
                    (long long)bytes, what, sizes, (long long)got);
    uint8_t more[512]; /* reading on to the end checks a gzip file's sums, the likelier cause */
    int64_t rest, extra = 0;
    while ((rest = got < 0 ? -1 : inflate_read(s, more, sizeof more)) > 0) extra += rest;
    if (rest == 0 && extra > 0)
        return fail("%s: expected %lld bytes of %s (%s), the file has %lld more", file,
                    (long long)bytes, what, sizes, (long long)extra);
    return (int)rest;
}

static int idx_read(const char *file, const char *what, int axes, idx *x) {
    inflate_file *s = inflate_open(file);
    if (!s) return -1;
    int status = idx_header(s, file, what, axes, x);
    if (status == 0) status = idx_values(s, file, what, axes, x);
    inflate_close(s);
    return status;
}

/* --------------------------------------------------------------------------------- data sets */

static cnn_dataset *dataset_new(void) {
    cnn_dataset *d = calloc(1, sizeof *d);
    if (!d) return fail_null("dataset: out of memory");
    d->refs = 1;
    return d;
}

void cnn_dataset_release(cnn_dataset *d) {
    if (!d || --d->refs) return;
    device_give(DEV_CUDA, d->on_card, 0);
    free(d->pixels);
    free(d->labels);
    free(d);
}

static cnn_dataset *dataset_drop(cnn_dataset *d) {
    cnn_dataset_release(d);
    return NULL;
}

static int classes_check(int classes) {
    if (classes >= 1 && classes <= MAX_CLASSES) return 0;
    return fail("dataset: expected 1 to %d classes, got %d", MAX_CLASSES, classes);
}

/* Takes over the files' values. */
static int dataset_fill(cnn_dataset *d, const idx *x, const idx *y, const char *images,
                        const char *labels, int classes) {
    d->count = x->size[0], d->height = x->size[1], d->width = x->size[2], d->channels = 1;
    d->pixels = x->values, d->labels = y->values;
    if (x->size[0] != y->size[0])
        return fail("%s: expected %lld labels, one for each image of %s, got %lld", labels,
                    (long long)x->size[0], images, (long long)y->size[0]);
    for (int64_t i = 0; i < d->count; i++)
        if (d->labels[i] >= classes)
            return fail("%s: expected labels from 0 to %d, got %d (label %lld of %lld)", labels,
                        classes - 1, d->labels[i], (long long)i + 1, (long long)d->count);
    return 0;
}

cnn_dataset *cnn_dataset_idx(const char *images, const char *labels, int classes) {
    idx x = {0}, y = {0};
    cnn_dataset *d = NULL;
    if (classes_check(classes) < 0 || idx_read(images, "images", 3, &x) < 0 ||
        idx_read(labels, "labels", 1, &y) < 0 || !(d = dataset_new())) {
        free(x.values);
        free(y.values);
        return NULL;
    }
    return dataset_fill(d, &x, &y, images, labels, classes) < 0 ? dataset_drop(d) : d;
}

/* ------------------------------------------------------------------------------ from tensors */

static int take_pixels(cnn_dataset *d, cnn_tensor *x) {
    if (!cnn_data(x = as_host(x))) return -1;
    if (x->nd != 4 || tensor_dtype(x) != K_U8 || tensor_numel(x) == 0)
        return fail("dataset: expected images N x C x H x W of u8, got %s of %s", shape_text(x),
                    cnn_dtype(x));
    d->count = x->size[0], d->channels = x->size[1], d->height = x->size[2], d->width = x->size[3];
    d->pixels = malloc((size_t)tensor_numel(x));
    if (!d->pixels) return fail("dataset: out of memory for %s bytes", shape_text(x));
    int64_t c = d->channels, plane = d->height * d->width, row = 0;
    for (row_walk w = rows_of(x); rows_next(&w); row++) { /* row: of N C H */
        int64_t y = row % d->height, channel = row / d->height % c, n = row / d->height / c;
        uint8_t *to = d->pixels + (n * plane + y * d->width) * c + channel;
        elements_copy((char *)to, c, w.row, w.step, w.length, 1);
    }
    return 0;
}

static int take_labels(cnn_dataset *d, cnn_tensor *y, int classes) {
    if (value_ready("dataset", y) < 0) return -1;
    if (tensor_numel(y) != d->count)
        return fail("dataset: expected %lld labels, one for each image, got %s",
                    (long long)d->count, shape_text(y));
    double *values = malloc((size_t)d->count * sizeof *values);
    d->labels = malloc((size_t)d->count);
    int status = values && d->labels ? cnn_read(y, values) : fail("dataset: out of memory");
    for (int64_t i = 0; i < d->count && !status; i++) {
        if (values[i] >= 1 && values[i] <= classes && values[i] == (int)values[i])
            d->labels[i] = (uint8_t)(values[i] - 1);
        else
            status = fail("dataset: expected labels from 1 to %d, got %g (label %lld of %lld)",
                          classes, values[i], (long long)i + 1, (long long)d->count);
    }
    free(values);
    return status;
}

cnn_dataset *cnn_dataset_from(cnn_tensor *images, cnn_tensor *labels, int classes) {
    if (classes_check(classes) < 0) return NULL;
    cnn_dataset *d = dataset_new();
    if (!d) return NULL;
    int scope = scope_begin();
    int status = take_pixels(d, images) < 0 ? -1 : take_labels(d, labels, classes);
    scope_end(scope, NULL);
    return status < 0 ? dataset_drop(d) : d;
}

int64_t cnn_dataset_count(const cnn_dataset *d) { return d->count; }

int64_t cnn_dataset_size(const cnn_dataset *d, int axis) {
    return axis == 1 ? d->channels : axis == 2 ? d->height : axis == 3 ? d->width : 0;
}
