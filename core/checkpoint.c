/* checkpoint.c - writing a safetensors file.
 *
 * The file is the length of the header in 8 bytes, little-endian, the header (JSON made by the
 * caller, who also checks what it reads), then the tensors' values in the header's order, dense
 * and in logical order whatever the strides.
 *
 * Surprising: the header is padded with spaces to a multiple of 8, as the format's own writer does,
 * so that values can be mapped where they lie; offsets in it count from its end. */
#include "file.h"
#include "walk.h"

#include <stdlib.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian"
#endif

static int write_header(out_file *o, const char *header, int64_t length) {
    uint64_t padded = ((uint64_t)length + 7) / 8 * 8;
    if (out_write(o, &padded, sizeof padded) < 0) return -1;
    if (out_write(o, header, (size_t)length) < 0) return -1;
    return out_write(o, "        ", padded - (uint64_t)length);
}

static int write_values(out_file *o, cnn_tensor *x) {
    if (value_ready("save", x = as_host(x)) < 0) return -1;
    int width = dtype_bytes[tensor_dtype(x)];
    if (tensor_is_dense(x)) return out_write(o, tensor_ptr(x), (size_t)(tensor_numel(x) * width));
    row_walk w = rows_of(x);
    char *row = malloc((size_t)(w.length * width) + 1);
    if (!row) return fail("%s: out of memory", o->name);
    int status = 0;
    while (!status && rows_next(&w)) {
        elements_copy(row, width, w.row, w.step, w.length, width);
        status = out_write(o, row, (size_t)(w.length * width));
    }
    free(row);
    return status;
}

int cnn_safetensors_write(const char *file, const char *header, int64_t length,
                          cnn_tensor *const *list, int n) {
    for (int i = 0; i < n; i++)
        if (value_ready("save", list[i]) < 0) return -1;
    out_file o;
    if (out_open(&o, file) < 0) return -1;
    int status = write_header(&o, header, length);
    for (int i = 0; i < n && !status; i++) {
        int scope = scope_begin(); /* a copy of what lies on a card lives as long as its writing */
        status = write_values(&o, list[i]);
        scope_end(scope, NULL);
    }
    return out_close(&o, status);
}
