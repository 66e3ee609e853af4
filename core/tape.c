/* tape.c - the one list to which forward, backward and optimizers append, and how it runs.
 *
 * Eager: an entry runs as it is appended. Recorded (between cnn_step_begin and cnn_step_end): it is
 * put on the pending list, which runs when the step ends or when a value is asked for. Either way
 * an entry holds aliases of its inputs and outputs, private to it; after it has run it drops every
 * value that its gradient does not need, and after its gradient was emitted, everything.
 *
 * Surprising: handles that Lua still holds do not keep memory in a recorded step. They are emptied
 * before the list runs, except those that the step returns; only entries hold values then, so each
 * value goes at its last use. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------- a growing list of tensors */

typedef struct {
    cnn_tensor **item;
    int n, room;
} list;

static void list_push(list *l, cnn_tensor *x) {
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 256;
        cnn_tensor **item = realloc(l->item, (size_t)room * sizeof *item);
        if (!item) return; /* x is then leaked, not lost */
        l->item = item;
        l->room = room;
    }
    l->item[l->n++] = x;
}

/* ------------------------------------------------------------------------ scopes: who owns what */

static list scope; /* each with one reference */
static int depth;
static list handed;        /* made in this step and given to the caller, each with one reference */
static uint64_t recording; /* number of the step being recorded, 0: none */
static uint64_t asked_within; /* the last step of which a part ran before its end */

int scope_begin(void) {
    if (depth++ == 0) error_clear();
    return scope.n;
}

cnn_tensor *scope_end(int mark, cnn_tensor *keep) {
    if (keep) tensor_retain(keep);
    while (scope.n > mark) cnn_release(scope.item[--scope.n]);
    depth--;
    if (keep && depth > 0) list_push(&scope, keep);
    if (keep && depth == 0 && recording && keep->born == recording)
        list_push(&handed, tensor_retain(keep));
    return keep;
}

void tape_made(cnn_tensor *x) {
    x->born = recording;
    if (depth > 0) list_push(&scope, x);
}

/* ------------------------------------------------------------------------- entries and releases */

static cnn_entry *dying; /* entries whose last reference went, not yet torn down */
static int tearing_down;

static void tensor_clear(cnn_tensor *x) {
    storage_release(x->storage);
    x->storage = 0;
    cnn_entry *e = x->entry;
    x->entry = 0;
    if (e) entry_release(e);
    cnn_tensor *grad = x->grad;
    x->grad = 0;
    if (grad) cnn_release(grad);
}

void cnn_release(cnn_tensor *x) {
    if (!x || --x->refs > 0) return;
    tensor_clear(x);
    free(x);
}

static void drop(cnn_tensor **slot, int n) {
    for (int i = 0; i < n; i++) {
        cnn_tensor *x = slot[i];
        slot[i] = 0;
        cnn_release(x);
    }
}

/* A long chain of entries is torn down in a loop: recursion would run out of stack. */
void entry_release(cnn_entry *e) {
    if (--e->refs > 0) return;
    e->next = dying;
    dying = e;
    if (tearing_down) return;
    tearing_down = 1;
    while (dying) {
        cnn_entry *d = dying;
        dying = d->next;
        if (d->op == &custom_op) custom_drop(d);
        drop(d->in, d->n_in);
        drop(d->out, d->n_out);
        drop(d->grad, d->n_out);
        free(d);
    }
    tearing_down = 0;
}

static int is_leaf(const cnn_tensor *x) { return x->requires_grad && !x->entry; }

/* What an entry holds of a tensor: its own alias with the history; of a leaf the leaf itself, since
 * that is where the gradient goes. */
static cnn_tensor *entry_hold(cnn_tensor *x) {
    if (!x) return 0;
    if (is_leaf(x)) return tensor_retain(x);
    int saved = depth;
    depth = 0; /* the entry owns it, no scope */
    cnn_tensor *y = tensor_alias(x);
    depth = saved;
    if (!y) return 0;
    y->requires_grad = x->requires_grad;
    y->narrow = is_activation(x);
    y->output = x->output;
    if ((y->entry = x->entry)) y->entry->refs++;
    return y;
}

static void empty_value(cnn_tensor *x) {
    if (!x || is_leaf(x)) return;
    storage_release(x->storage);
    x->storage = 0;
}

/* The gradient of e is still to come and needs input i. */
static int saves_input(const cnn_entry *e, int i) {
    return e->differentiable && !e->consumed && i < 32 && (e->op->saves_in >> i & 1);
}

void entry_settle(cnn_entry *e) {
    if (!e->ran) return;
    if (e->consumed || !e->differentiable) {
        drop(e->in, e->n_in);
        drop(e->out, e->n_out);
        return;
    }
    for (int i = 0; i < e->n_in; i++)
        if (!saves_input(e, i)) empty_value(e->in[i]);
    for (int i = 0; i < e->n_out; i++)
        if (!(e->op->saves_out >> i & 1)) empty_value(e->out[i]);
}

int entry_wants(const cnn_entry *e, int input) {
    return e->in[input] && e->in[input]->requires_grad;
}

const k_table *entry_kernels(const cnn_entry *e) {
    const cnn_tensor *x = e->n_in && e->in[0] ? e->in[0] : e->out[0];
    cnn_dev device = tensor_device(e->out[0]);
    return tensor_dtype(x) == K_BF16 ? narrow_kernels_of(device) : kernels_of(device);
}

/* -------------------------------------------------------------------------------------- running */

static cnn_entry *first_pending, *last_pending;
static volatile int interrupted;
static void *scratch;
static int64_t scratch_bytes;
static cnn_dev scratch_device;

void cnn_interrupt(int on) { interrupted = on; }
int cnn_interrupted(void) { return interrupted; }

static void scratch_drop(void) {
    device_give(scratch_device, scratch, scratch_bytes);
    scratch = 0;
}

void *entry_scratch(cnn_entry *e, int64_t bytes) {
    scratch_drop();
    scratch_bytes = bytes;
    scratch_device = tensor_device(e->out[0]);
    return scratch = device_take(scratch_device, bytes);
}

/* What e would have made has no value; what it would have changed keeps the old one. A view (no
 * run) makes none: its storage is its input's, a parameter's perhaps. */
static void entry_lose(cnn_entry *e) {
    if (!op_runs(e->op) || e->writes_in_place) return;
    for (int i = 0; i < e->n_out; i++) e->out[i]->storage->lost = 1;
}

/* Gives the first output the memory of an input that e is the last to use; that storage, or NULL.
 * A chain of activations then needs half the memory. */
static cnn_storage *take_over(cnn_entry *e) {
    const cnn_tensor *y = e->n_out ? e->out[0] : 0;
    for (int i = 0; e->op->reuses_in >> i && y && !y->storage->data; i++) {
        const cnn_tensor *x = i < e->n_in && e->op->reuses_in >> i & 1 ? e->in[i] : 0;
        if (!x || !x->storage || x->storage->refs > 1 || is_leaf(x) || saves_input(e, i)) continue;
        if (tensor_device(x) != tensor_device(y) || x->storage->count != y->storage->count ||
            tensor_dtype(x) != tensor_dtype(y) || !tensor_same_dense_layout(x, y))
            continue;
        y->storage->data = x->storage->data;
        return x->storage;
    }
    return 0;
}

/* Memory and values for what entry k of a list takes and makes, but for what stays within a chain.
 */
static int entry_ready(cnn_entry *const *list, int n, int k, cnn_storage **taken) {
    cnn_entry *e = list[k];
    const cnn_storage *within = list[0]->op->chain && k > 0 ? list[k - 1]->out[0]->storage : 0;
    int rc = 0, stays = list[0]->op->chain && k < n - 1;
    for (int i = 0; i < e->n_in && !rc; i++)
        if (e->in[i] && e->in[i]->storage && e->in[i]->storage != within)
            rc = storage_ready(e->in[i]->storage);
    if (!rc && n == 1) *taken = take_over(e);
    for (int i = 0; i < e->n_out && !rc && !stays; i++) rc = storage_ready(e->out[i]->storage);
    return rc;
}

/* Runs n entries that join (entry_joins); what one of them cannot do none of them has done. */
static int entries_run(cnn_entry *const *list, int n) {
    cnn_storage *taken = 0;
    int rc = 0;
    for (int k = 0; k < n && !rc; k++) rc = entry_ready(list, n, k, &taken);
    cnn_entry *e = list[0];
    if (!rc && e->op->run_many && (n > 1 || !e->op->run))
        rc = e->op->run_many(list, n);
    else if (!rc && e->op->run)
        rc = e->op->run(e);
    if (!rc && e->n_out && tensor_device(e->out[0]) == DEV_CUDA) rc = card_check(e->op->name);
    scratch_drop();
    if (taken) taken->data = 0;
    for (int k = 0; k < n; k++) {
        list[k]->ran = 1;
        if (rc) entry_lose(list[k]);
        entry_settle(list[k]);
    }
    return rc;
}

static int entry_run(cnn_entry *e) { return entries_run(&e, 1); }

static cnn_entry *pending_pop(void) {
    cnn_entry *e = first_pending;
    first_pending = e->next;
    if (!first_pending) last_pending = 0;
    e->next = 0;
    return e;
}

int entry_joins(const cnn_entry *e) { return e->op->joins ? e->op->joins(e) : 1; }

/* Parts of concatenations lie in place; what may run earlier so that it joins others does so. */
void tape_tidy(void) {
    layout_list(first_pending);
    joins_order(&first_pending, &last_pending);
}

int tape_run_next(void) {
    cnn_entry *list[MOST_JOINED];
    int n = entry_joins(first_pending);
    for (int i = 0; i < n; i++) list[i] = pending_pop();
    int rc = entries_run(list, n);
    for (int i = 0; i < n; i++) entry_release(list[i]);
    return rc;
}

void tape_count_as_run(void) {
    while (first_pending) {
        cnn_entry *e = pending_pop();
        e->ran = 1;
        entry_settle(e);
        entry_release(e);
    }
}

static void pending_forget(void) {
    while (first_pending) {
        cnn_entry *e = pending_pop();
        entry_lose(e);
        e->ran = 1;
        entry_settle(e);
        entry_release(e);
    }
}

/* Memory for what outlives the pending ops, before any of them runs: parameters and buffers that
 * got theirs in between would break up the room that the next steps' activations need. */
int tape_lasting_ready(void) {
    int rc = 0;
    for (cnn_entry *e = first_pending; e && !rc; e = e->next) {
        for (int i = 0; i < e->n_in && !rc; i++)
            if (e->in[i] && e->in[i]->storage && is_leaf(e->in[i]))
                rc = storage_ready(e->in[i]->storage);
        for (int i = 0; i < e->n_out && e->lasting && !rc; i++)
            rc = storage_ready(e->out[i]->storage);
    }
    return rc;
}

/* Ctrl-C ends a recorded step between two of its ops, until the first parameter is written: all
 * parameters are updated, or none. */
int tape_flush(void) {
    if (first_pending) asked_within = recording;
    tape_tidy();
    int training = 0, rc = tape_lasting_ready();
    if (rc) pending_forget();
    while (first_pending) {
        if (interrupted && !training) {
            pending_forget();
            return fail("interrupted");
        }
        training |= first_pending->trains;
        rc = tape_run_next();
        if (rc) pending_forget();
    }
    return rc;
}

/* ------------------------------------------------------------------------------------ appending */

static int grad_enabled = 1;
static int64_t sequence;

int cnn_grad_enabled(void) { return grad_enabled; }

int cnn_set_grad_enabled(int on) {
    int was = grad_enabled;
    grad_enabled = on != 0;
    return was;
}

static cnn_entry *entry_new(const cnn_op *op, cnn_tensor *const *in, int n_in,
                            cnn_tensor *const *out, int n_out, const void *attr, size_t bytes) {
    size_t slots = (size_t)(n_in + 2 * n_out) * sizeof(cnn_tensor *);
    cnn_entry *e = calloc(1, sizeof *e + slots + (size_t)(n_in + n_out) * sizeof(uint32_t));
    if (!e) return fail_null("out of memory");
    e->refs = 1;
    e->op = op;
    e->seq = ++sequence;
    e->n_in = n_in;
    e->n_out = n_out;
    e->in = (cnn_tensor **)(e + 1);
    e->out = e->in + n_in;
    e->grad = e->out + n_out;
    e->version = (uint32_t *)(e->grad + n_out);
    if (bytes) memcpy(e->attr, attr, bytes);
    int saved = depth;
    depth = 0;
    for (int i = 0; i < n_in; i++) {
        e->in[i] = entry_hold(in[i]);
        if (in[i]) e->version[i] = in[i]->storage->version;
    }
    for (int i = 0; i < n_out; i++) {
        e->out[i] = tensor_alias(out[i]);
        e->version[n_in + i] = out[i]->storage->version;
    }
    depth = saved;
    for (int i = 0; i < n_in + n_out; i++)
        if (i < n_in ? in[i] && !e->in[i] : !e->out[i - n_in]) {
            entry_release(e);
            return 0;
        }
    return e;
}

/* Inputs of several devices are refused; -1, or 1 when one is on meta. */
static int on_meta(const cnn_op *op, cnn_tensor *const *in, int n) {
    int meta = 0;
    cnn_dev device = DEV_META;
    for (int i = 0; i < n; i++) {
        if (!in[i]) continue;
        cnn_dev d = tensor_device(in[i]);
        if (d == DEV_META)
            meta = 1;
        else if (device == DEV_META)
            device = d;
        else if (d != device)
            return fail("%s: expected all tensors on one device, got one on %s; use x:to", op->name,
                        cnn_device(in[i]));
    }
    return meta;
}

static void prepare_outputs(const cnn_op *op, cnn_tensor *const *out, int n, int meta, int wants) {
    for (int i = 0; i < n; i++) {
        out[i]->origin = op->name;
        out[i]->requires_grad = wants;
        if (meta) out[i]->storage->device = DEV_META;
    }
}

/* From here on the targets count as changed. */
static void mark_writes(cnn_entry *e, cnn_tensor *const *out) {
    e->writes_in_place = 1;
    for (int i = 0; i < e->n_out; i++) {
        out[i]->storage->version++;
        e->lasting |= out[i]->born == 0;
        e->trains |= out[i]->requires_grad != 0;
    }
}

/* Takes the reference that the caller has. */
static int run_or_queue(cnn_entry *e) {
    if (!recording) {
        int rc = entry_run(e);
        entry_release(e);
        return rc;
    }
    if (last_pending)
        last_pending->next = e;
    else
        first_pending = e;
    last_pending = e;
    return 0;
}

static int append(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *const *out,
                  int n_out, const void *attr, size_t bytes, int in_place) {
    for (int i = 0; i < n_in; i++)
        if (in[i] && check_tensor(op->name, "an input", in[i]) < 0) return -1;
    int meta = on_meta(op, in, n_in), wants = 0;
    if (meta < 0) return -1;
    for (int i = 0; i < n_in; i++) wants |= in[i] && in[i]->requires_grad;
    for (int i = 0; i < n_out; i++) meta |= tensor_device(out[i]) == DEV_META;
    wants = wants && grad_enabled && op->gradient && !in_place;
    if (!in_place) prepare_outputs(op, out, n_out, meta, wants);
    if (meta || (!op_runs(op) && !wants)) return 0;
    if (interrupted && !recording) return fail("interrupted");
    cnn_entry *e = entry_new(op, in, n_in, out, n_out, attr, bytes);
    if (!e) return -1;
    if (in_place) mark_writes(e, out);
    e->differentiable = (unsigned char)wants;
    for (int i = 0; wants && i < n_out; i++) {
        out[i]->entry = e;
        out[i]->output = i;
        e->refs++;
    }
    return run_or_queue(e);
}

int tape_append(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *const *out,
                int n_out, const void *attr, size_t attr_bytes) {
    return append(op, in, n_in, out, n_out, attr, attr_bytes, 0);
}

cnn_tensor *tape_append1(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *y,
                         const void *attr, size_t attr_bytes) {
    if (!y || append(op, in, n_in, &y, 1, attr, attr_bytes, 0) < 0) return 0;
    return y;
}

int tape_append_inplace(const cnn_op *op, cnn_tensor *const *in, int n_in, cnn_tensor *const *out,
                        int n_out, const void *attr, size_t attr_bytes) {
    for (int i = 0; i < n_out; i++)
        if (check_tensor(op->name, "the target", out[i]) < 0 ||
            check_not_expanded(op->name, "the target", out[i]) < 0)
            return -1;
    return append(op, in, n_in, out, n_out, attr, attr_bytes, 1);
}

/* ---------------------------------------------------------------------------------------- steps */

static uint64_t steps;

int cnn_step_begin(void) {
    error_clear();
    if (recording) return fail("step: a step is being recorded already");
    recording = ++steps;
    return 0;
}

int cnn_keep(cnn_tensor *x) {
    x->born = 0;
    return 0;
}

static void handed_empty(cnn_tensor *const *keep, int n) {
    for (int i = 0; i < n; i++) keep[i]->born = 0;
    while (handed.n) {
        cnn_tensor *x = handed.item[--handed.n];
        if (x->born) tensor_clear(x);
        cnn_release(x);
    }
}

int cnn_step_end(cnn_tensor *const *keep, int n) {
    error_clear();
    if (!recording) return fail("step: none is being recorded");
    int whole = asked_within != recording;
    recording = 0;
    handed_empty(keep, n);
    tape_tidy();
    int planned = whole && first_pending ? plan_run(first_pending) : 0;
    if (planned < 0) pending_forget();
    return planned ? planned < 0 ? -1 : 0 : tape_flush();
}

void cnn_step_abandon(void) {
    recording = 0;
    pending_forget();
    handed_empty(0, 0);
}

/* --------------------------------------------------------------------------------- multiply-adds
 */

static int64_t macs;

void count_macs(int64_t n) { macs += n; }

int64_t cnn_macs(void) {
    int64_t n = macs;
    macs = 0;
    return n;
}
