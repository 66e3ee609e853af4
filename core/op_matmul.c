/* op_matmul.c - products of matrices: matmul, alone or in batches, and linear.
 *
 * Contract: the last two axes are a matrix; those before broadcast. An operand of which one of the
 * last two strides is 1 is used where it lies (a transposed view is a flag of the kernel); another
 * one is copied.
 *
 * Surprising: a batch times a single matrix is one tall product, so that its gradient by that
 * matrix is one product too, not a sum over the batch. */
#include "layers.h"

/* The last two axes as the kernel takes a matrix: stored rows x columns, or (*transposed) columns x
 * rows, *ld elements from one to the next. 0 when it is neither. */
static int is_matrix(const cnn_tensor *x, int *transposed, int64_t *ld) {
    int64_t rows = x->size[x->nd - 2], columns = x->size[x->nd - 1];
    int64_t down = x->stride[x->nd - 2], right = x->stride[x->nd - 1];
    *transposed = 0;
    *ld = rows > 1 ? down : columns;
    if ((columns <= 1 || right == 1) && *ld >= columns && *ld > 0) return 1;
    *transposed = 1;
    *ld = columns > 1 ? right : rows;
    if ((rows <= 1 || down == 1) && *ld >= rows && *ld > 0) return 1;
    *transposed = 0;
    *ld = 1;
    return rows == 0 || columns == 0;
}

static cnn_tensor *as_matrix(cnn_tensor *x) {
    int transposed;
    int64_t ld;
    return x && !is_matrix(x, &transposed, &ld) ? as_dense(x) : x;
}

static k_gemm gemm_of(const cnn_tensor *a, const cnn_tensor *b, const cnn_tensor *y) {
    k_gemm g = {.m = y->size[y->nd - 2], .n = y->size[y->nd - 1], .k = a->size[a->nd - 1]};
    int dense;
    is_matrix(a, &g.ta, &g.lda);
    is_matrix(b, &g.tb, &g.ldb);
    is_matrix(y, &dense, &g.ldc);
    return g;
}

/* Matrix `i` of y's batch in x, whose batch broadcasts to y's. */
static float *matrix_at(const cnn_tensor *x, const cnn_tensor *y, int64_t i) {
    cnn_tensor one = *x;
    for (int d = y->nd - 3, e = x->nd - 3; e >= 0; d--, e--) {
        if (x->size[e] != 1) one.offset += i % y->size[d] * x->stride[e];
        i /= y->size[d];
    }
    return tensor_f32(&one);
}

/* ------------------------------------------------------------------------------------- matmul */

/* in: a ...xMxK, b ...xKxN; out: y ...xMxN */
static int matmul_run(cnn_entry *e) {
    const cnn_tensor *a = e->in[0], *b = e->in[1], *y = e->out[0];
    const k_table *k = entry_kernels(e);
    k_gemm g = gemm_of(a, b, y);
    int64_t batch = 1;
    for (int d = 0; d < y->nd - 2; d++) batch *= y->size[d];
    void *scratch = entry_scratch(e, k->gemm_scratch(&g));
    if (!scratch) return -1;
    for (int64_t i = 0; i < batch; i++)
        k->gemm(&g, matrix_at(a, y, i), matrix_at(b, y, i), 0, matrix_at(y, y, i), scratch);
    return 0;
}

static cnn_tensor *product(cnn_tensor *a, cnn_tensor *b);

static int matmul_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    cnn_tensor *a = as_operand(e->in[0]), *b = as_operand(e->in[1]), *g = as_operand(dy[0]);
    if (!g) return -1;
    if (entry_wants(e, 0) && !(dx[0] = sum_to(product(g, cnn_transpose(b, -1, -2)), e->in[0])))
        return -1;
    if (entry_wants(e, 1) && !(dx[1] = sum_to(product(cnn_transpose(a, -1, -2), g), e->in[1])))
        return -1;
    return 0;
}

static const cnn_op op_matmul = {
    .name = "matmul", .run = matmul_run, .gradient = matmul_gradient, .saves_in = 1 << 0 | 1 << 1};

/* y's sizes; 0, or -1 when the batches do not broadcast. */
static int product_sizes(const cnn_tensor *a, const cnn_tensor *b, int64_t *size, int *nd) {
    *nd = a->nd > b->nd ? a->nd : b->nd;
    for (int i = 0; i < *nd - 2; i++) {
        int ia = i - (*nd - a->nd), ib = i - (*nd - b->nd);
        int64_t sa = ia < 0 ? 1 : a->size[ia], sb = ib < 0 ? 1 : b->size[ib];
        if (sa != sb && sa != 1 && sb != 1) return -1;
        size[i] = sa == 1 ? sb : sa;
    }
    size[*nd - 2] = a->size[a->nd - 2];
    size[*nd - 1] = b->size[b->nd - 1];
    return 0;
}

/* The product without checks and without counting: gradients use it too. */
static cnn_tensor *product(cnn_tensor *a, cnn_tensor *b) {
    int64_t size[CNN_MAX_DIM];
    int nd;
    cnn_tensor *in[] = {as_matrix(a), as_matrix(b)};
    if (!in[0] || !in[1]) return 0;
    product_sizes(a, b, size, &nd);
    return tape_append1(&op_matmul, in, 2, tensor_new(size, nd, K_F32, tensor_device(a)), 0, 0);
}

/* ...xMxK times KxN as one product of (... M) x K. */
static cnn_tensor *tall_product(cnn_tensor *a, cnn_tensor *b, const int64_t *size, int nd) {
    int64_t tall[2] = {1, a->size[nd - 1]};
    for (int i = 0; i < nd - 1; i++) tall[0] *= a->size[i];
    a = cnn_view(a, tall, 2);
    cnn_tensor *y = a ? product(a, b) : 0;
    return y ? cnn_view(y, size, nd) : 0;
}

cnn_tensor *cnn_matmul(cnn_tensor *a, cnn_tensor *b) {
    int scope = scope_begin(), nd;
    int64_t size[CNN_MAX_DIM], factor[CNN_MAX_DIM + 1];
    if (check_tensor("matmul", "a", a) || check_beside("matmul", a, "b", b))
        return scope_end(scope, 0);
    if (a->nd < 2 || b->nd < 2)
        return scope_end(scope, fail_null("matmul: expected at least 2 axes (unsqueeze a vector), "
                                          "got %s and %s",
                                          shape_text(a), shape_text(b)));
    int64_t k = a->size[a->nd - 1];
    if (b->size[b->nd - 2] != k)
        return scope_end(scope, fail_null("matmul: expected %lld rows in b, as many as a has "
                                          "columns, got %lld (%s times %s)",
                                          (long long)k, (long long)b->size[b->nd - 2],
                                          shape_text(a), shape_text(b)));
    if (product_sizes(a, b, size, &nd))
        return scope_end(scope, fail_null("matmul: expected batches that broadcast, got %s and %s",
                                          shape_text(a), shape_text(b)));
    for (int i = 0; i < nd; i++) factor[i] = size[i];
    factor[nd] = k;
    int64_t macs = check_macs("matmul", factor, nd + 1);
    if (macs < 0) return scope_end(scope, 0);
    a = as_operand(a);
    b = as_operand(b);
    if (!a || !b) return scope_end(scope, 0);
    cnn_tensor *y = b->nd == 2 && nd > 2 ? tall_product(a, b, size, nd) : product(a, b);
    if (y) count_macs(macs);
    return scope_end(scope, y);
}

/* ------------------------------------------------------------------------------------- linear */

/* in: x NxI, w OxI, b O or NULL; out: y NxO */
static int linear_into(cnn_entry *e, const cnn_tensor *y, int relu) {
    const cnn_tensor *x = e->in[0], *w = e->in[1], *b = e->in[2];
    const k_table *k = entry_kernels(e);
    k_gemm g = gemm_of(x, w, y);
    g.tb = !g.tb; /* w is the transpose of the operand */
    void *scratch = entry_scratch(e, k->gemm_scratch(&g));
    if (!scratch) return -1;
    (relu ? k->gemm_relu : k->gemm)(&g, tensor_f32(x), tensor_f32(w), b ? tensor_f32(b) : 0,
                                    tensor_f32(y), scratch);
    return 0;
}

static int linear_run(cnn_entry *e) { return linear_into(e, e->out[0], 0); }

/* With ReLU behind it, where the kernels have that. */
static int linear_joins(const cnn_entry *e) {
    return entry_kernels(e)->gemm_relu && joins_next(e, relu_op, 0) ? 2 : 1;
}

static int linear_relu_run(cnn_entry *const *list, int n) {
    return linear_into(list[0], list[n - 1]->out[0], 1);
}

/* in: dy NxO, x NxI; out: dw OxI, db O, which the kernels may find on the way */
static int linear_weight_grad_run(cnn_entry *e) {
    const cnn_tensor *dy = e->in[0], *x = e->in[1], *dw = e->out[0], *db = e->out[1];
    const k_table *k = entry_kernels(e);
    k_gemm g = gemm_of(dy, x, dw);
    g.ta = !g.ta; /* dy is the transpose of the operand */
    g.k = dy->size[0];
    k_reduce rows = {.nk = 1,
                     .nr = 1,
                     .ksize = {g.m},
                     .sy = {1},
                     .kx = {dy->stride[1]},
                     .rsize = {g.k},
                     .rx = {dy->stride[0]}};
    int64_t product = k->gemm_scratch(&g), sum = g.k ? k->reduce_scratch(&rows) : 0;
    void *scratch = entry_scratch(e, product > sum ? product : sum);
    if (!scratch) return -1;
    if (k->gemm_bias_grad && k->gemm_bias_grad(&g, tensor_f32(dy), tensor_f32(x), tensor_f32(db),
                                               tensor_f32(dw), scratch))
        return 0;
    k->gemm(&g, tensor_f32(dy), tensor_f32(x), 0, tensor_f32(dw), scratch);
    if (g.k && g.m)
        k->sum(&rows, tensor_f32(db), tensor_f32(dy), scratch);
    else
        storage_set(db->storage, 0, db->storage->count, 0);
    return 0;
}

static const cnn_op op_linear_weight_grad = {.name = "linear_weight_grad",
                                             .run = linear_weight_grad_run};

/* Both at once: g is read once, where the kernels can. */
static int weight_and_bias_gradient(cnn_entry *e, cnn_tensor *g, cnn_tensor **dx) {
    cnn_tensor *in[] = {g, as_matrix(as_operand(e->in[0]))};
    if (!in[1]) return -1;
    dx[1] = tensor_new(e->in[1]->size, 2, K_F32, tensor_device(g));
    dx[2] = tensor_new(e->in[2]->size, 1, K_F32, tensor_device(g));
    return dx[1] && dx[2] ? tape_append(&op_linear_weight_grad, in, 2, dx + 1, 2, 0, 0) : -1;
}

static int linear_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    cnn_tensor *g = as_matrix(as_operand(dy[0]));
    if (!g) return -1;
    if (entry_wants(e, 0) && !(dx[0] = product(g, as_operand(e->in[1])))) return -1;
    if (entry_wants(e, 1) && entry_wants(e, 2)) return weight_and_bias_gradient(e, g, dx);
    if (entry_wants(e, 1) && !(dx[1] = product(cnn_transpose(g, 1, 2), as_operand(e->in[0]))))
        return -1;
    if (!entry_wants(e, 2)) return 0;
    dx[2] = cnn_view(cnn_sum(dy[0], (const int[]){1}, 1), e->in[2]->size, 1);
    return dx[2] ? 0 : -1;
}

static const cnn_op op_linear = {.name = "linear",
                                 .run = linear_run,
                                 .joins = linear_joins,
                                 .run_many = linear_relu_run,
                                 .chain = 1,
                                 .gradient = linear_gradient,
                                 .saves_in = 1 << 0 | 1 << 1};

static int check_linear(const cnn_tensor *x, const cnn_tensor *w, const cnn_tensor *b) {
    if (check_tensor("linear", "x", x) || check_beside("linear", x, "w", w)) return -1;
    if (w->nd != 2) return fail("linear: expected w as OxI, got %s", shape_text(w));
    if (x->nd < 1) return fail("linear: expected x with at least 1 axis, got %s", shape_text(x));
    if (x->size[x->nd - 1] != w->size[1])
        return fail("linear: expected %lld features, got %lld (x is %s)", (long long)w->size[1],
                    (long long)x->size[x->nd - 1], shape_text(x));
    return check_sizes("linear", x, "b", b, w->size, 1);
}

cnn_tensor *cnn_linear(cnn_tensor *x, cnn_tensor *w, cnn_tensor *b) {
    int scope = scope_begin();
    if (check_linear(x, w, b)) return scope_end(scope, 0);
    int64_t matrix[2] = {1, w->size[1]}, size[CNN_MAX_DIM];
    for (int i = 0; i < x->nd; i++) size[i] = i < x->nd - 1 ? x->size[i] : w->size[0];
    for (int i = 0; i < x->nd - 1; i++) matrix[0] *= x->size[i];
    int64_t macs = check_macs("linear", (const int64_t[]){matrix[0], w->size[0], w->size[1]}, 3);
    if (macs < 0) return scope_end(scope, 0);

    int nd = x->nd;
    x = as_operand(x);
    if (x && nd != 2) x = cnn_view(x, matrix, 2);
    cnn_tensor *in[] = {as_matrix(x), as_matrix(as_operand(w)), as_vector(b)};
    if (!in[0] || !in[1] || (b && !in[2])) return scope_end(scope, 0);
    const int64_t rows[2] = {matrix[0], w->size[0]};
    cnn_tensor *y =
        tape_append1(&op_linear, in, 3, tensor_new(rows, 2, K_F32, tensor_device(in[0])), 0, 0);
    if (y && nd != 2) y = cnn_view(y, size, nd);
    if (y) count_macs(macs);
    return scope_end(scope, y);
}
