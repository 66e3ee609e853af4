/* op_index.c - picking positions of an axis, and the whole numbers that say which.
 *
 * Contract: positions count from 1 and come in any dtype (a label, an argmax, a Lua table); the
 * kernels want i32 from 0.
 *
 * Surprising: whether a position is in range is known when it has a value. In a recorded step that
 * is when the step runs, and then the whole step fails. */
#include "layers.h"

#include <math.h>

/* ----------------------------------------------------------------------------------- positions */

typedef struct {
    const char *op, *what;
    int64_t limit;
} positions_attr;

/* What is asked of positions, by number, so that a card that finds a bad one can name it later.
 * The ops that take positions are few. */
enum { MOST_KINDS = 64 };
static positions_attr kinds[MOST_KINDS];
static int kind_count;

static int kind_of(const positions_attr *a) {
    for (int i = 0; i < kind_count; i++)
        if (kinds[i].op == a->op && kinds[i].what == a->what && kinds[i].limit == a->limit)
            return i;
    int i = kind_count < MOST_KINDS ? kind_count++ : MOST_KINDS - 1; /* the last one gives way */
    kinds[i] = *a;
    return i;
}

int positions_fail(const k_trouble *t) {
    const positions_attr *a = &kinds[t->op];
    if (t->value != floor(t->value))
        return fail("%s: %s %g at position %lld is not a whole number", a->op, a->what, t->value,
                    (long long)t->at + 1);
    return fail("%s: %s %.0f at position %lld is not in 1 .. %lld", a->op, a->what, t->value,
                (long long)t->at + 1, (long long)a->limit);
}

/* in: dense numbers of any dtype; out: i32 from 0. A card goes on with position 0 in place of a bad
 * one; when nothing is recorded it is asked at once, else when a value is next read. */
static int indices_run(cnn_entry *e) {
    const positions_attr *a = entry_attr(e);
    const cnn_tensor *x = e->in[0];
    int on_card = tensor_device(x) == DEV_CUDA, op = kind_of(a);
    k_trouble here = {0};
    entry_kernels(e)->positions(tensor_numel(x), tensor_dtype(x), tensor_ptr(x), a->limit, op,
                                tensor_ptr(e->out[0]), on_card ? card()->trouble_at() : &here);
    if (on_card && !plan_capturing() && card_asked(a->op, card()->trouble(&here)) < 0) return -1;
    return here.found ? positions_fail(&here) : 0;
}

static const cnn_op op_indices = {.name = "indices", .run = indices_run};

cnn_tensor *as_positions(const char *op, const char *what, cnn_tensor *x, int64_t limit) {
    positions_attr a = {op, what, limit};
    x = as_dense(x);
    if (!x) return 0;
    return tape_append1(&op_indices, &x, 1, tensor_new(x->size, x->nd, K_I32, tensor_device(x)), &a,
                        sizeof a);
}

/* -------------------------------------------------------------------------------- index_select */

/* x and y as `outer` blocks of rows (x: `rows`, y: `picks`), a row being `inner` floats. */
typedef struct {
    int64_t outer, rows, picks, inner;
} select_attr;

/* in: dy dense, index from 0; out: dx */
static int index_add_run(cnn_entry *e) {
    const select_attr *a = entry_attr(e);
    entry_kernels(e)->index_add(a->outer, a->rows, a->picks, a->inner, tensor_f32(e->in[0]),
                                tensor_ptr(e->in[1]), tensor_f32(e->out[0]));
    return 0;
}

static const cnn_op op_index_add = {.name = "index_select_grad", .run = index_add_run};

/* in: x dense, index from 0; out: y */
static int index_select_run(cnn_entry *e) {
    const select_attr *a = entry_attr(e);
    entry_kernels(e)->index_select(a->outer, a->rows, a->picks, a->inner, tensor_f32(e->in[0]),
                                   tensor_ptr(e->in[1]), tensor_f32(e->out[0]));
    return 0;
}

static int index_select_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    const cnn_tensor *x = e->in[0];
    cnn_tensor *in[] = {as_dense(dy[0]), e->in[1]};
    if (!in[0]) return -1;
    dx[0] =
        tape_append1(&op_index_add, in, 2, tensor_new(x->size, x->nd, K_F32, tensor_device(in[0])),
                     entry_attr(e), sizeof(select_attr));
    return dx[0] ? 0 : -1;
}

static const cnn_op op_index_select = {.name = "index_select",
                                       .run = index_select_run,
                                       .gradient = index_select_gradient,
                                       .saves_in = 1 << 1};

cnn_tensor *cnn_index_select(cnn_tensor *x, int axis, cnn_tensor *index) {
    static const char op[] = "index_select";
    int scope = scope_begin();
    if (check_tensor(op, "x", x) || check_beside(op, x, "index", index)) return scope_end(scope, 0);
    int at = check_axis(op, x, axis);
    if (at < 0) return scope_end(scope, 0);
    if (index->nd != 1)
        return scope_end(
            scope, fail_null("%s: expected index with 1 axis, got %s", op, shape_text(index)));
    if (x->size[at] > INT32_MAX)
        return scope_end(scope, fail_null("%s: expected an axis of at most %d, got %s", op,
                                          INT32_MAX, shape_text(x)));
    select_attr a = {1, x->size[at], index->size[0], 1};
    int64_t size[CNN_MAX_DIM];
    for (int i = 0; i < x->nd; i++) {
        size[i] = i == at ? a.picks : x->size[i];
        if (i < at) a.outer *= x->size[i];
        if (i > at) a.inner *= x->size[i];
    }
    cnn_tensor *in[] = {as_dense(as_f32(x)), as_positions(op, "index", index, a.rows)};
    if (!in[0] || !in[1]) return scope_end(scope, 0);
    return scope_end(scope, tape_append1(&op_index_select, in, 2,
                                         tensor_new(size, x->nd, K_F32, tensor_device(in[0])), &a,
                                         sizeof a));
}
