/* tensor.c - storages, tensors, and what can be asked of them.
 *
 * A tensor is sizes, strides and an offset into a storage; several may share one. Nothing here
 * records history: that is tape.c's.
 *
 * Surprising: a storage has no memory until an op first uses it. A random or constant value is then
 * drawn from what the storage remembers (kind, seed, stream), so building a net costs nothing. */
#include "core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dtype_names[K_DTYPES] = {"f32", "bf16", "u8", "i32"};
const int dtype_bytes[K_DTYPES] = {4, 2, 1, 4};

/* ------------------------------------------------------------------------------ storages */

static cnn_storage *storage_new(int64_t count, k_dtype dtype, cnn_dev device) {
    cnn_storage *s = calloc(1, sizeof *s);
    if (!s) return fail_null("out of memory");
    s->refs = 1;
    s->count = count;
    s->dtype = dtype;
    s->device = device;
    return s;
}

void storage_release(cnn_storage *s) {
    if (!s || --s->refs) return;
    device_give(s->device, s->data, s->count * dtype_bytes[s->dtype]);
    pictures_release(s->from);
    free(s);
}

static void storage_fill(cnn_storage *s) {
    const k_table *k = kernels_of(s->device);
    float a = (float)s->fill_a, b = (float)s->fill_b;
    switch (s->fill) {
    case FILL_NONE:
        break;
    case FILL_UNIFORM:
        k->uniform(s->count, &s->draw, a, b, s->data);
        break;
    case FILL_NORMAL:
        k->normal(s->count, &s->draw, a, b, s->data);
        break;
    case FILL_RANGE:
        k->range(s->count, s->fill_a, s->fill_b, s->data);
        break;
    case FILL_CONST:
        storage_set(s, 0, s->count, s->fill_a);
        break;
    case FILL_IMAGES:
    case FILL_LABELS:
        pictures_fill(s);
        break;
    }
}

void element_of(k_dtype dtype, double value, void *one) {
    float f = (float)value;
    if (dtype == K_I32) { /* beyond 2^24 a float would round */
        int32_t i = isnan(value)         ? 0
                    : value >= INT32_MAX ? INT32_MAX
                    : value <= INT32_MIN ? INT32_MIN
                                         : (int32_t)value;
        memcpy(one, &i, sizeof i);
    } else
        kernels_of(DEV_CPU)->from_f32(1, dtype, &f, one);
}

void storage_set(cnn_storage *s, int64_t from, int64_t count, double value) {
    char one[4];
    int bytes = dtype_bytes[s->dtype];
    element_of(s->dtype, value, one);
    kernels_of(s->device)->fill(count, bytes, one, (char *)s->data + from * bytes);
}

int storage_ready(cnn_storage *s) {
    if (s->data) return 0;
    s->data = device_take(s->device, s->count * dtype_bytes[s->dtype]);
    if (!s->data) return -1;
    storage_fill(s);
    if (s->device == DEV_CUDA && s->fill != FILL_NONE && card_check("fill") < 0) {
        device_give(s->device, s->data, 0); /* as if it had not been asked for */
        s->data = 0;
        return -1;
    }
    s->fill = FILL_NONE;
    pictures_release(s->from);
    s->from = 0;
    return 0;
}

/* ------------------------------------------------------------------------------- tensors */

static void dense_strides(cnn_tensor *x) {
    int64_t step = 1;
    for (int i = x->nd - 1; i >= 0; i--) {
        x->stride[i] = step;
        step *= x->size[i] > 0 ? x->size[i] : 1;
    }
}

static void pixel_strides(cnn_tensor *x) {
    int64_t c = x->size[1], w = x->size[3], h = x->size[2];
    x->stride[1] = 1;
    x->stride[3] = c > 0 ? c : 1;
    x->stride[2] = x->stride[3] * (w > 0 ? w : 1);
    x->stride[0] = x->stride[2] * (h > 0 ? h : 1);
}

static cnn_tensor *tensor_blank(void) {
    cnn_tensor *x = calloc(1, sizeof *x);
    if (!x) return fail_null("out of memory");
    x->refs = 1;
    x->origin = "leaf";
    tape_made(x);
    return x;
}

int64_t sizes_count(const int64_t *size, int nd) {
    int64_t span = 1;
    int empty = 0;
    for (int i = 0; i < nd; i++) {
        if (size[i] < 0) return -1;
        if (size[i] == 0)
            empty = 1;
        else if (__builtin_mul_overflow(span, size[i], &span) || span > INT64_MAX / 8)
            return -1;
    }
    return empty ? 0 : span;
}

cnn_tensor *tensor_new(const int64_t *size, int nd, k_dtype dtype, cnn_dev device) {
    int64_t count = sizes_count(size, nd);
    if (count < 0)
        return fail_null("tensor: expected sizes whose product fits, got %s", sizes_text(size, nd));
    cnn_storage *s = storage_new(count, dtype, device);
    cnn_tensor *x = s ? tensor_blank() : 0;
    if (!x) {
        free(s);
        return 0;
    }
    x->nd = nd;
    if (nd) memcpy(x->size, size, (size_t)nd * sizeof *size);
    dense_strides(x);
    x->storage = s;
    return x;
}

cnn_tensor *tensor_new_channels_last(const int64_t *size, k_dtype dtype, cnn_dev device) {
    cnn_tensor *x = tensor_new(size, 4, dtype, device);
    if (x) pixel_strides(x);
    return x;
}

cnn_tensor *tensor_new_like(const cnn_tensor *x, k_dtype dtype) {
    cnn_tensor *y = tensor_new(x->size, x->nd, dtype, tensor_device(x));
    if (y && tensor_is_channels_last(x)) pixel_strides(y);
    return y;
}

cnn_tensor *tensor_alias(const cnn_tensor *x) {
    cnn_tensor *y = tensor_blank();
    if (!y) return 0;
    y->nd = x->nd;
    memcpy(y->size, x->size, sizeof y->size);
    memcpy(y->stride, x->stride, sizeof y->stride);
    y->offset = x->offset;
    y->storage = x->storage;
    if (y->storage) y->storage->refs++;
    y->origin = x->origin;
    return y;
}

cnn_tensor *tensor_retain(cnn_tensor *x) {
    x->refs++;
    return x;
}

int64_t tensor_numel(const cnn_tensor *x) {
    int64_t n = 1;
    for (int i = 0; i < x->nd; i++) n *= x->size[i];
    return n;
}

int tensor_same_shape(const cnn_tensor *a, const cnn_tensor *b) {
    return a->nd == b->nd && !memcmp(a->size, b->size, (size_t)a->nd * sizeof *a->size);
}

int tensor_is_dense(const cnn_tensor *x) {
    int64_t step = 1;
    if (tensor_numel(x) == 0) return 1;
    for (int i = x->nd - 1; i >= 0; i--) {
        if (x->size[i] != 1 && x->stride[i] != step) return 0;
        step *= x->size[i];
    }
    return 1;
}

int tensor_is_pixels(const cnn_tensor *x, int64_t *ld) {
    static const int order[2][4] = {{1, 0}, {1, 3, 2, 0}}; /* innermost first */
    if (x->nd != 2 && x->nd != 4) return 0;
    const int *axis = order[x->nd == 4];
    int64_t row = -1; /* the row stride, once an axis has shown it; 0: an expanded axis */
    int64_t rows = 1;
    if (x->size[1] != 1 && x->stride[1] != 1) return 0;
    for (int i = 1; i < x->nd; i++) {
        int a = axis[i];
        if (x->size[a] == 0) {
            *ld = x->size[1];
            return 1;
        }
        if (x->size[a] != 1) {
            if (row < 0) row = x->stride[a] / rows;
            if (x->stride[a] != row * rows) return 0;
        }
        rows *= x->size[a];
    }
    if (row < 0) row = x->size[1];
    if (row < x->size[1]) return 0; /* expanded: rows would overlap */
    *ld = row > 0 ? row : 1;
    return row > 0 || x->size[1] == 0;
}

int tensor_is_channels_last(const cnn_tensor *x) {
    int64_t ld;
    return x->nd == 4 && !tensor_is_dense(x) && tensor_is_pixels(x, &ld);
}

int tensor_same_dense_layout(const cnn_tensor *x, const cnn_tensor *y) {
    int64_t span = 1;
    if (!tensor_same_shape(x, y)) return 0;
    for (int i = 0; i < x->nd; i++) {
        if (x->size[i] == 0) return 1;
        if (x->size[i] == 1) continue;
        if (x->stride[i] != y->stride[i] || x->stride[i] == 0) return 0;
        span += (x->size[i] - 1) * x->stride[i];
    }
    return span == tensor_numel(x);
}

/* -------------------------------------------------------------------------------- checks */

int check_not_expanded(const char *op, const char *what, const cnn_tensor *x) {
    for (int a = 0; a < x->nd; a++)
        if (x->size[a] > 1 && x->stride[a] == 0)
            return fail(
                "%s: %s is an expanded view (%s), its elements share memory; clone it first", op,
                what, shape_text(x));
    return 0;
}

int check_tensor(const char *op, const char *what, const cnn_tensor *x) {
    if (!x) return error_is_set() ? -1 : fail("%s: %s: expected a tensor, got none", op, what);
    if (!x->storage)
        return fail("%s: %s was given back when its step ended; return it from cnn.step to keep it",
                    op, what);
    if (x->storage->lost)
        return fail("%s: %s has no value: the step that was to compute it failed", op, what);
    return 0;
}

int check_axis(const char *op, const cnn_tensor *x, int axis) {
    int a = axis < 0 ? axis + x->nd : axis - 1;
    if (axis != 0 && a >= 0 && a < x->nd) return a;
    return fail("%s: expected an axis from 1 to %d of %s, got %d", op, x->nd, shape_text(x), axis);
}

static int find_dtype(const char *name) {
    for (int i = 0; name && i < K_DTYPES; i++)
        if (!strcmp(dtype_names[i], name)) return i;
    return -1;
}

int parse_dtype(const char *op, const char *name) {
    int d = find_dtype(name ? name : "f32");
    return d >= 0 ? d : fail("%s: expected dtype f32, bf16, u8 or i32, got %s", op, name);
}

int parse_device(const char *op, const char *name) {
    if (!name || !strcmp(name, "cpu")) return DEV_CPU;
    if (!strcmp(name, "meta")) return DEV_META;
    if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':')) {
        char *end = 0;
        long index = name[4] ? strtol(name + 5, &end, 10) : -1;
        if (!name[4] || (end > name + 5 && !*end && index >= 0 && index < 1024))
            return card_open(op, (int)index) < 0 ? -1 : DEV_CUDA;
    }
    return fail("%s: expected device cpu, cuda, cuda:0 or meta, got %s", op, name);
}

/* ------------------------------------------------------------------------------- creation */

static cnn_tensor *create(const char *op, const int64_t *sizes, int n, const char *dtype,
                          const char *device, cnn_fill_kind fill, double a, double b) {
    int scope = scope_begin(), dt = parse_dtype(op, dtype), dev = parse_device(op, device);
    if (dt < 0 || dev < 0) return scope_end(scope, 0);
    if (n < 0 || n > CNN_MAX_DIM)
        return scope_end(scope,
                         fail_null("%s: expected at most %d axes, got %d", op, CNN_MAX_DIM, n));
    for (int i = 0; i < n; i++)
        if (sizes[i] < 0)
            return scope_end(
                scope, fail_null("%s: expected sizes from 0, got %s", op, sizes_text(sizes, n)));
    cnn_tensor *x = tensor_new(sizes, n, (k_dtype)dt, (cnn_dev)dev);
    if (x) {
        x->storage->fill = fill;
        x->storage->fill_a = a;
        x->storage->fill_b = b;
        if (fill == FILL_UNIFORM || fill == FILL_NORMAL) {
            x->storage->draw = (k_draw){cnn_seed(), rng_next_stream()};
        }
    }
    return scope_end(scope, x);
}

cnn_tensor *cnn_empty(const int64_t *sizes, int n, const char *dtype, const char *device) {
    return create("empty", sizes, n, dtype, device, FILL_NONE, 0, 0);
}

cnn_tensor *cnn_full(const int64_t *sizes, int n, double value, const char *dtype,
                     const char *device) {
    return create("full", sizes, n, dtype, device, FILL_CONST, value, 0);
}

cnn_tensor *cnn_full_like(const cnn_tensor *x, double value) {
    int scope = scope_begin();
    if (check_tensor("full_like", "x", x) < 0) return scope_end(scope, 0);
    cnn_tensor *y = tensor_new_like(x, tensor_dtype(x));
    if (y) {
        y->storage->fill = FILL_CONST;
        y->storage->fill_a = value;
    }
    return scope_end(scope, y);
}

cnn_tensor *cnn_uniform(const int64_t *sizes, int n, double lo, double hi, const char *device) {
    return create("uniform", sizes, n, "f32", device, FILL_UNIFORM, lo, hi);
}

cnn_tensor *cnn_normal(const int64_t *sizes, int n, double mean, double std, const char *device) {
    return create("normal", sizes, n, "f32", device, FILL_NORMAL, mean, std);
}

cnn_tensor *cnn_arange(double first, double last, double step, const char *device) {
    double count = floor((last - first) / step + 1e-9) + 1;
    if (!(fabs(step) > 0) || !isfinite(count) || count > 1e12)
        return fail_null("arange: expected a finite range and a step that is not 0, got %g to %g "
                         "by %g",
                         first, last, step);
    int64_t n = count > 0 ? (int64_t)count : 0;
    return create("arange", &n, 1, "f32", device, FILL_RANGE, first, step);
}

cnn_tensor *cnn_from_data(const int64_t *sizes, int n, const char *dtype, const void *data) {
    int scope = scope_begin();
    cnn_tensor *x = cnn_empty(sizes, n, dtype, "cpu");
    if (!x || storage_ready(x->storage) < 0) return scope_end(scope, 0);
    size_t bytes = (size_t)x->storage->count * (size_t)dtype_bytes[x->storage->dtype];
    if (bytes) memcpy(x->storage->data, data, bytes);
    return scope_end(scope, x);
}

/* ------------------------------------------------------------------------------ questions */

int cnn_alive(const cnn_tensor *x) { return x && x->storage && !x->storage->lost; }
int cnn_dim(const cnn_tensor *x) { return x->nd; }
int64_t cnn_numel(const cnn_tensor *x) { return tensor_numel(x); }
const char *cnn_origin(const cnn_tensor *x) { return x->origin; }

static int axis_of(const cnn_tensor *x, int axis) {
    int a = axis < 0 ? axis + x->nd : axis - 1;
    return axis != 0 && a >= 0 && a < x->nd ? a : -1;
}

int64_t cnn_size(const cnn_tensor *x, int axis) {
    int a = axis_of(x, axis);
    return a < 0 ? 0 : x->size[a];
}

int64_t cnn_stride(const cnn_tensor *x, int axis) {
    int a = axis_of(x, axis);
    return a < 0 ? 0 : x->stride[a];
}

const char *cnn_dtype(const cnn_tensor *x) {
    return x->storage ? dtype_names[x->storage->dtype] : "none";
}

const char *cnn_device(const cnn_tensor *x) {
    if (!x->storage) return "none";
    return x->storage->device == DEV_CUDA   ? card_name()
           : x->storage->device == DEV_META ? "meta"
                                            : "cpu";
}

int cnn_is_contiguous(const cnn_tensor *x) { return tensor_is_dense(x); }

/* Makes sure that x has a value. */
int value_ready(const char *op, cnn_tensor *x) {
    if (check_tensor(op, "x", x) < 0 || tape_flush() < 0 || check_tensor(op, "x", x) < 0) return -1;
    if (tensor_device(x) == DEV_META)
        return fail("%s: a tensor on device meta has a shape (%s) but no value", op, shape_text(x));
    return storage_ready(x->storage);
}

void *cnn_data(cnn_tensor *x) {
    error_clear();
    if (value_ready("data", x) < 0) return 0;
    if (tensor_device(x) != DEV_CUDA) return tensor_ptr(x);
    return fail_null("data: x is on %s, where the host cannot read it; use x:to \"cpu\"",
                     card_name());
}

/* An element at p, on the host. */
static double element(k_dtype dtype, const char *p) {
    float f;
    if (dtype == K_I32) {
        int32_t i;
        memcpy(&i, p, sizeof i);
        return i;
    }
    kernels_of(DEV_CPU)->to_f32(1, dtype, p, &f);
    return f;
}

int cnn_item(cnn_tensor *x, double *value) {
    error_clear();
    if (check_tensor("item", "x", x) < 0) return -1;
    if (tensor_numel(x) != 1)
        return fail("item: expected a tensor of one element, got %s", shape_text(x));
    if (value_ready("item", x) < 0) return -1;
    char one[4];
    const char *p = tensor_ptr(x);
    if (tensor_device(x) == DEV_CUDA) {
        if (card_read(one, p, dtype_bytes[tensor_dtype(x)]) < 0) return -1;
        p = one;
    }
    *value = element(tensor_dtype(x), p);
    return 0;
}

static void read_host(const cnn_tensor *x, double *values) {
    k_dtype dtype = tensor_dtype(x);
    int bytes = dtype_bytes[dtype];
    int64_t index[CNN_MAX_DIM] = {0}, n = tensor_numel(x);
    const char *p = tensor_ptr(x);
    for (int64_t i = 0; i < n; i++) {
        values[i] = element(dtype, p);
        for (int d = x->nd - 1; d >= 0; d--) { /* the next position in row-major order */
            p += x->stride[d] * bytes;
            if (++index[d] < x->size[d]) break;
            p -= x->stride[d] * x->size[d] * bytes;
            index[d] = 0;
        }
    }
}

int cnn_read(cnn_tensor *x, double *values) {
    int scope = scope_begin(), rc = value_ready("read", x);
    if (!rc && (x = as_host(x)))
        rc = value_ready("read", x);
    else
        rc = -1;
    if (!rc) read_host(x, values);
    scope_end(scope, 0);
    return rc;
}
