/* image.c - PNG files to u8 tensors and back.
 *
 * Contract: cnn.h. Reading brings palettes, 16 bits and alpha to gray or RGB bytes (alpha is
 * dropped, not blended), and one to the other as asked; channels 0 keeps what the file has. RGB
 * becomes gray by ITU-R 601, the weights that PyTorch's and Python's libraries use.
 *
 * Surprising: libpng's simplified interface needs no setjmp: its errors come back as a message. */
#include "file.h"
#include "walk.h"

#include <png.h>
#include <stdlib.h>

static const int64_t MOST_PIXELS = (int64_t)1 << 28; /* a header may claim anything */

/* One pixel of `from` channels to one of `to`; gray to RGB, RGB to gray, or the same. */
static void pixel_convert(const uint8_t *p, int from, uint8_t *out, int64_t plane, int to) {
    if (to == 1) {
        out[0] = from == 1
                     ? p[0]
                     : (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768) >> 16);
        return;
    }
    for (int c = 0; c < 3; c++) out[c * plane] = p[from == 1 ? 0 : c];
}

/* pixels: `step` bytes each, the first `from` of them are its channels */
static cnn_tensor *to_tensor(const uint8_t *pixels, int64_t h, int64_t w, int step, int from,
                             int to) {
    int64_t size[3] = {to, h, w};
    cnn_tensor *x = cnn_empty(size, 3, "u8", "cpu");
    uint8_t *data = x ? cnn_data(x) : NULL;
    if (!data) {
        cnn_release(x);
        return NULL;
    }
    for (int64_t i = 0; i < h * w; i++) pixel_convert(pixels + i * step, from, data + i, h * w, to);
    return x;
}

static cnn_tensor *read_pixels(const char *file, png_image *image, int channels) {
    int64_t h = image->height, w = image->width;
    if (h * w > MOST_PIXELS)
        return fail_null("%s: expected at most %lld pixels, got %lldx%lld", file,
                         (long long)MOST_PIXELS, (long long)h, (long long)w);
    int color = (image->format & PNG_FORMAT_FLAG_COLOR) != 0, from = color ? 3 : 1;
    int alpha = (image->format & PNG_FORMAT_FLAG_ALPHA) != 0, step = from + alpha;
    image->flags |= PNG_IMAGE_FLAG_16BIT_sRGB; /* deep files are no other than shallow ones */
    image->format = (color ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY) |
                    (alpha ? (png_uint_32)PNG_FORMAT_FLAG_ALPHA : 0);
    uint8_t *pixels = malloc((size_t)(h * w * step));
    if (!pixels)
        return fail_null("%s: out of memory for %lldx%lld", file, (long long)h, (long long)w);
    cnn_tensor *x = NULL;
    if (png_image_finish_read(image, NULL, pixels, 0, NULL))
        x = to_tensor(pixels, h, w, step, from, channels ? channels : from);
    else
        fail("%s: damaged PNG: %s", file, image->message);
    free(pixels);
    return x;
}

cnn_tensor *cnn_png_read(const char *file, int channels) {
    if (channels != 0 && channels != 1 && channels != 3)
        return fail_null("png: expected 1 or 3 channels, got %d", channels);
    FILE *f = in_open(file);
    if (!f) return NULL;
    png_image image = {.version = PNG_IMAGE_VERSION};
    cnn_tensor *x = NULL;
    if (png_image_begin_read_from_stdio(&image, f))
        x = read_pixels(file, &image, channels);
    else
        fail("%s: expected a PNG picture: %s", file, image.message);
    png_image_free(&image);
    fclose(f);
    return x;
}

/* Fast: 30 ms instead of 110 for a grid of maps of 1600x1600, in a file twice as large. */
static void *pack(const cnn_tensor *x, png_alloc_size_t *bytes) {
    int64_t c = x->size[0], h = x->size[1], w = x->size[2], row = 0;
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)w,
                       .height = (png_uint_32)h,
                       .format = c == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB,
                       .flags = PNG_IMAGE_FLAG_FAST};
    *bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
    uint8_t *pixels = malloc((size_t)(c * h * w));
    void *packed = malloc(*bytes);
    int done = 0;
    if (!pixels || !packed) {
        fail("png: out of memory for %s", shape_text(x));
    } else {
        for (row_walk r = rows_of(x); rows_next(&r); row++) /* row: of C H */
            elements_copy((char *)pixels + (row % h) * w * c + row / h, c, r.row, r.step, r.length,
                          1);
        done = png_image_write_to_memory(&image, packed, bytes, 0, pixels, 0, NULL);
        if (!done) fail("png: cannot pack %s: %s", shape_text(x), image.message);
    }
    png_image_free(&image);
    free(pixels);
    if (done) return packed;
    free(packed);
    return NULL;
}

/* The file's bytes, which the caller frees; x is checked first. */
static void *png_bytes(cnn_tensor *x, png_alloc_size_t *bytes) {
    if (!cnn_data(x = as_host(x))) return NULL;
    if (x->nd != 3 || tensor_dtype(x) != K_U8 || (x->size[0] != 1 && x->size[0] != 3) ||
        tensor_numel(x) == 0 || x->size[1] * x->size[2] > MOST_PIXELS)
        return fail_null("png: expected a picture C x H x W of u8 with 1 or 3 channels, got %s of "
                         "%s",
                         shape_text(x), cnn_dtype(x));
    return pack(x, bytes);
}

cnn_tensor *cnn_png_pack(cnn_tensor *x) {
    png_alloc_size_t bytes;
    int scope = scope_begin();
    void *packed = png_bytes(x, &bytes);
    scope_end(scope, NULL);
    if (!packed) return NULL;
    int64_t size = (int64_t)bytes;
    cnn_tensor *y = cnn_from_data(&size, 1, "u8", packed);
    free(packed);
    return y;
}

/* Packed in memory first, so that a full disk is met by out_write, which can say so. */
int cnn_png_write(const char *file, cnn_tensor *x) {
    png_alloc_size_t bytes;
    int scope = scope_begin();
    void *packed = png_bytes(x, &bytes);
    scope_end(scope, NULL);
    if (!packed) return -1;
    out_file o;
    int status = out_open(&o, file);
    if (status == 0) status = out_close(&o, out_write(&o, packed, bytes));
    free(packed);
    return status;
}
