/* backward.c - reverse-mode differentiation of the tape.
 *
 * The entries that lead to the loss are visited from the last to the first; each one's gradient
 * emits ops of its own, which are appended like any others. A gradient that arrives twice is added
 * up; at a leaf it is added to what the leaf has. Gradients are f32, those of bf16 activations
 * bf16.
 *
 * Surprising: an op written in Lua cannot be called from here (a callback through a compiled FFI
 * call would panic), so backward stops at one, returns its number, and goes on when the caller has
 * handed in what its Lua function answered. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

static struct {
    cnn_entry **order; /* from the loss backwards; each with a reference */
    int n, at;
    cnn_entry *waiting; /* a custom op whose gradient is due */
    cnn_tensor **given; /* what the caller has handed in for it, given_n = its inputs */
    int given_n;
} run;

/* ------------------------------------------------------------------------- ops written elsewhere
 */

static int custom_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx);
const cnn_op custom_op = {.name = "custom", .gradient = custom_gradient};

static int custom_gradient(cnn_entry *e, cnn_tensor *const *dy, cnn_tensor **dx) {
    (void)dy;
    for (int i = 0; i < e->n_in; i++) dx[i] = run.given[i];
    return 0;
}

static int *dropped;
static int dropped_n, dropped_room;

static int custom_number(cnn_entry *e) {
    int number;
    memcpy(&number, entry_attr(e), sizeof number);
    return number;
}

void custom_drop(cnn_entry *e) {
    if (dropped_n == dropped_room) {
        int room = dropped_room ? 2 * dropped_room : 64;
        int *d = realloc(dropped, (size_t)room * sizeof *d);
        if (!d) return; /* the caller keeps that op's table a while longer */
        dropped = d;
        dropped_room = room;
    }
    dropped[dropped_n++] = custom_number(e);
}

int cnn_custom_dropped(void) { return dropped_n ? dropped[--dropped_n] : 0; }

cnn_tensor *cnn_custom(cnn_tensor *y, int number, cnn_tensor *const *list, int n) {
    int scope = scope_begin();
    if (check_tensor("custom", "y", y) < 0) return scope_end(scope, 0);
    for (int i = 0; i < n; i++)
        if (check_tensor("custom", "an input", list[i]) < 0) return scope_end(scope, 0);
    /* On meta if an input is: y may be a parameter, which must not go there with it. */
    int meta = tensor_device(y) == DEV_META;
    for (int i = 0; i < n; i++) meta |= tensor_device(list[i]) == DEV_META;
    cnn_tensor *out =
        meta ? tensor_new(y->size, y->nd, tensor_dtype(y), DEV_META) : tensor_alias(y);
    return scope_end(scope, tape_append1(&custom_op, list, n, out, &number, sizeof number));
}

/* ------------------------------------------------------------------------------------ the graph */

static int later_first(const void *a, const void *b) {
    const cnn_entry *p = *(cnn_entry *const *)a, *q = *(cnn_entry *const *)b;
    return p->seq < q->seq ? 1 : -1;
}

/* Puts the entries that `from` depends on into run.order. */
static int collect(cnn_entry *from) {
    int room = 0;
    run.n = run.at = 0;
    for (int next = -1; next < run.n; next++) { /* breadth first; -1 stands for `from` */
        cnn_entry *e = next < 0 ? 0 : run.order[next];
        int edges = e ? e->n_in : 1;
        for (int i = 0; i < edges; i++) {
            cnn_entry *up = !e ? from : e->in[i] ? e->in[i]->entry : 0;
            if (!up || up->marked) continue;
            if (up->consumed)
                return fail("backward: the graph behind %s was used by an earlier backward; run "
                            "the forward again",
                            up->op->name);
            if (run.n == room) {
                room = room ? 2 * room : 256;
                cnn_entry **order = realloc(run.order, (size_t)room * sizeof *order);
                if (!order) return fail("backward: out of memory");
                run.order = order;
            }
            up->marked = 1;
            up->refs++;
            run.order[run.n++] = up;
        }
    }
    qsort(run.order, (size_t)run.n, sizeof *run.order, later_first);
    return 0;
}

static void set_grad(cnn_tensor **slot, cnn_tensor *grad) {
    if (grad) tensor_retain(grad);
    cnn_release(*slot);
    *slot = grad;
}

static void given_drop(void) {
    for (int i = 0; i < run.given_n; i++) cnn_release(run.given[i]);
    free(run.given);
    run.given = 0;
    run.given_n = 0;
    run.waiting = 0;
}

static void finish(void) {
    given_drop();
    for (int i = 0; i < run.n; i++) {
        cnn_entry *e = run.order[i];
        e->marked = 0;
        for (int k = 0; k < e->n_out; k++) set_grad(&e->grad[k], 0);
        entry_release(e);
    }
    free(run.order);
    memset(&run, 0, sizeof run);
}

static int stop(void) {
    finish();
    return -1;
}

static int shares_memory(const cnn_tensor *dx, cnn_tensor *const *dy, int n) {
    for (int k = 0; k < n; k++)
        if (dy[k] && dy[k]->storage == dx->storage) return 1;
    return 0;
}

/* Adds dx to what input i of e leads to. A leaf's gradient is a value of its own, never a view of
 * what flows on, nor whatever a Lua function answered. */
static int pass_on(cnn_entry *e, int i, cnn_tensor *dx, cnn_tensor *const *dy) {
    cnn_tensor *x = e->in[i];
    if (!tensor_same_shape(dx, x))
        return fail("%s: the gradient of input %d has shape %s, expected %s", e->op->name, i + 1,
                    shape_text(dx), shape_text(x));
    cnn_tensor **slot = x->entry ? &x->entry->grad[x->output] : &x->grad;
    if (!x->entry || !x->entry->op->casts) dx = as_dtype(dx, x->narrow ? K_BF16 : K_F32);
    if (!dx) return -1;
    if (*slot)
        dx = cnn_add(*slot, dx);
    else if (!x->entry && (e->op == &custom_op || shares_memory(dx, dy, e->n_out)))
        dx = cnn_clone(dx);
    if (!dx) return -1;
    set_grad(slot, dx);
    if (!x->entry) (*slot)->born = 0; /* it belongs to the leaf, whatever the step */
    return 0;
}

static int unchanged(cnn_entry *e) {
    for (int i = 0; i < e->n_in + e->n_out; i++) {
        int k = i < e->n_in ? i : i - e->n_in;
        const cnn_tensor *x = i < e->n_in ? e->in[k] : e->out[k];
        unsigned saves = i < e->n_in ? e->op->saves_in : e->op->saves_out;
        if (k > 31 || !(saves >> k & 1) || !x || !x->storage) continue;
        if (x->storage->version != e->version[i])
            return fail("backward: a value that %s needs (%s) was changed in place after %s had "
                        "used it; change a clone instead",
                        e->op->name, shape_text(x), e->op->name);
    }
    return 0;
}

static int differentiate(cnn_entry *e) {
    int any = 0, rc = 0, mark = scope_begin();
    cnn_tensor *few[8] = {0}, **dx = e->n_in <= 8 ? few : calloc((size_t)e->n_in, sizeof *dx);
    if (!dx) rc = fail("backward: out of memory");
    for (int i = 0; i < e->n_out; i++) any |= e->grad[i] != 0;
    if (!rc && any) rc = unchanged(e);
    if (!rc && any) rc = e->op->gradient(e, e->grad, dx);
    if (!rc && error_is_set()) rc = -1;
    for (int i = 0; !rc && any && i < e->n_in; i++)
        if (dx[i] && entry_wants(e, i)) rc = pass_on(e, i, dx[i], e->grad);
    if (dx != few) free(dx);
    scope_end(mark, 0);
    e->consumed = 1;
    for (int i = 0; i < e->n_out; i++) set_grad(&e->grad[i], 0);
    entry_settle(e);
    return rc;
}

/* Goes on until the end, an error, or a custom op. */
static int go_on(void) {
    while (run.at < run.n) {
        cnn_entry *e = run.order[run.at];
        if (e->op == &custom_op && e->grad[0] && !run.waiting) {
            run.given = calloc((size_t)e->n_in + 1, sizeof *run.given);
            if (!run.given) {
                fail("backward: out of memory");
                return stop();
            }
            run.given_n = e->n_in;
            run.waiting = e;
            return custom_number(e);
        }
        int was = cnn_set_grad_enabled(0), rc = differentiate(e);
        cnn_set_grad_enabled(was);
        given_drop();
        run.at++;
        if (rc) return stop();
    }
    finish();
    return 0;
}

/* A gradient from outside: of like's shape, on the device of `beside`. */
static int check_given(const char *what, const cnn_tensor *like, const cnn_tensor *beside,
                       const cnn_tensor *given) {
    if (check_tensor("backward", what, given) < 0) return -1;
    if (!tensor_same_shape(given, like))
        return fail("backward: expected %s of shape %s, got %s", what, shape_text(like),
                    shape_text(given));
    if (tensor_device(given) != tensor_device(beside))
        return fail("backward: expected %s on %s, got it on %s", what, cnn_device(beside),
                    cnn_device(given));
    return 0;
}

/* The loss is a leaf: what it gets is a copy, added to what it has. */
static int seed_leaf(cnn_tensor *leaf, cnn_tensor *seed) {
    cnn_tensor *grad = leaf->grad ? cnn_add(leaf->grad, seed) : cnn_clone(seed);
    if (!grad) return -1;
    set_grad(&leaf->grad, grad);
    grad->born = 0;
    return 0;
}

int cnn_backward(cnn_tensor *loss, cnn_tensor *seed) {
    finish(); /* one that its caller gave up */
    int mark = scope_begin(), was = cnn_set_grad_enabled(0);
    int rc = check_tensor("backward", "the loss", loss);
    if (!rc && tensor_device(loss) == DEV_META)
        rc = fail("backward: a tensor on device meta has a shape (%s) but no value",
                  shape_text(loss));
    if (!rc && !loss->requires_grad)
        rc = fail("backward: the loss does not depend on anything that requires a gradient");
    if (!rc && !seed && tensor_numel(loss) != 1)
        rc = fail("backward: expected a loss of one element, or a seed of its shape, got %s",
                  shape_text(loss));
    if (!rc && seed) rc = check_given("the seed", loss, loss, seed);
    if (!rc && !seed) seed = cnn_full(loss->size, loss->nd, 1, "f32", cnn_device(loss));
    if (!rc) rc = (seed = as_dtype(seed, is_activation(loss) ? K_BF16 : K_F32)) ? 0 : -1;
    if (!rc && !loss->entry) rc = seed_leaf(loss, seed);
    if (!rc && loss->entry && (rc = collect(loss->entry)) == 0)
        set_grad(&loss->entry->grad[loss->output], seed);
    scope_end(mark, 0);
    cnn_set_grad_enabled(was);
    return rc ? stop() : go_on();
}

static int nothing_waits(void) {
    return fail("backward: no op waits for its gradient (another backward was begun meanwhile)");
}

cnn_tensor *cnn_backward_dy(void) {
    int mark = scope_begin();
    if (!run.waiting) {
        nothing_waits();
        return scope_end(mark, 0);
    }
    return scope_end(mark, tensor_alias(run.waiting->grad[0]));
}

int cnn_backward_give(int input, cnn_tensor *dx) {
    int mark = scope_begin(), rc = run.waiting ? 0 : nothing_waits();
    if (!rc && (input < 1 || input > run.given_n))
        rc = fail("backward: expected an input from 1 to %d, got %d", run.given_n, input);
    if (!rc && dx)
        rc = check_given("a gradient", run.waiting->in[input - 1], run.waiting->grad[0], dx);
    if (!rc && dx) rc = (dx = as_f32(dx)) ? 0 : -1;
    if (!rc) set_grad(&run.given[input - 1], dx);
    scope_end(mark, 0);
    return rc;
}

void cnn_backward_abandon(void) { finish(); }

int cnn_backward_resume(void) {
    error_clear();
    return run.waiting ? go_on() : nothing_waits();
}

/* --------------------------------------------------------------------------------------- leaves */

int cnn_requires_grad(const cnn_tensor *x) { return x->requires_grad; }

int cnn_set_requires_grad(cnn_tensor *x, int on) {
    error_clear();
    if (check_tensor("requires_grad", "x", x) < 0) return -1;
    /* What is pending was recorded with x as it is. */
    if (x->requires_grad != (on != 0) && tape_flush() < 0) return -1;
    if (x->entry)
        return fail("requires_grad: expected a leaf, got the result of %s; detach it first",
                    x->origin);
    if (on && tensor_dtype(x) != K_F32)
        return fail("requires_grad: expected f32, got %s", cnn_dtype(x));
    x->requires_grad = on != 0;
    if (on) x->born = 0; /* what is learned outlives the step that made it */
    return 0;
}

cnn_tensor *cnn_grad(cnn_tensor *x) {
    int mark = scope_begin();
    return scope_end(mark, x->grad ? tensor_alias(x->grad) : 0);
}

int cnn_set_grad(cnn_tensor *x, cnn_tensor *grad) {
    int mark = scope_begin(), rc = 0;
    if (grad && check_tensor("grad", "the gradient", grad) < 0) rc = -1;
    if (!rc && grad && !tensor_same_shape(grad, x))
        rc = fail("grad: expected shape %s, got %s", shape_text(x), shape_text(grad));
    if (!rc && grad && x->storage && tensor_device(grad) != tensor_device(x))
        rc = fail("grad: expected a gradient on %s, got it on %s", cnn_device(x), cnn_device(grad));
    if (!rc) set_grad(&x->grad, grad ? tensor_alias(grad) : 0);
    scope_end(mark, 0);
    return rc;
}
