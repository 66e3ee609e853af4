/* layout.c - concatenation in place: the parts of a concatenation of channels are made where the
 * whole will lie, as slices of its rows, and nothing is copied.
 *
 * Before a recorded list runs, each concatenation in it, the last first, takes over the storages of
 * its parts: every tensor on such a storage becomes a slice. So may a part that is a concatenation
 * itself, whose parts follow it: a whole dense block becomes one matrix.
 *
 * A part is taken over where that changes nothing but row strides: it has no memory yet, an op of
 * the list makes it, all that hold its storage are entries of the list, whose ops read row strides
 * when they run (cnn_op.strided), each has it as a whole matrix of pixels, nothing writes to the
 * whole in place, and the slice begins at a multiple of 8 channels, so that kernels go on moving 16
 * bytes at once. Others are copied as ever.
 *
 * Surprising: a reference to the storage that no entry of the list accounts for is somebody's
 * handle. That is all it takes to know that a tensor is returned by the step. */
#include "core.h"

#include <string.h>

enum { APART = 8, MOST = 256, CHANNELS = 1 };

static uint64_t round_now;

/* What was noted of it in an earlier round is void. */
static void storage_note(cnn_storage *s) {
    if (s->placed == round_now) return;
    s->placed = round_now;
    s->uses = s->made = s->written = 0;
    s->first_on = 0;
    s->fixed = s->data || s->fill != FILL_NONE || s->version;
}

/* x is all of its storage, N C H W without holes, the channels innermost. */
static int is_whole(const cnn_tensor *x) {
    int64_t ld;
    return x->nd == 4 && !x->offset && tensor_numel(x) == x->storage->count &&
           tensor_is_pixels(x, &ld) && ld == x->size[CHANNELS];
}

static void note(const cnn_entry *e, cnn_tensor *x, int made) {
    if (!x || !x->storage) return;
    cnn_storage *s = x->storage;
    storage_note(s);
    s->uses++;
    s->made += made;
    s->written |= made && e->writes_in_place;
    s->fixed |= !e->op->strided || e->writes_in_place || !is_whole(x);
    x->beside = s->first_on;
    s->first_on = x;
}

/* The concatenations of channels, in their order; those past MOST are copied. */
static int find(cnn_entry *first, cnn_entry **found) {
    int n = 0;
    for (cnn_entry *e = first; e && n < MOST; e = e->next)
        if (e->op == cat_op && cat_axis(e) == CHANNELS && is_whole(e->out[0])) found[n++] = e;
    return n;
}

/* Whether x, the part of `whole` from channel `start` on, may lie there. */
static int may_lie_within(const cnn_tensor *x, const cnn_tensor *whole, int64_t start) {
    const cnn_storage *s = x->storage;
    return !s->fixed && s->made == 1 && s->uses == s->refs && s != whole->storage &&
           !whole->storage->written && s->dtype == whole->storage->dtype && start % APART == 0 &&
           x->size[CHANNELS] % APART == 0 && whole->size[CHANNELS] % APART == 0;
}

/* All tensors on x's storage become the slice of `whole` from channel `start` on. */
static void lie_within(const cnn_tensor *x, const cnn_tensor *whole, int64_t start) {
    cnn_storage *from = x->storage, *to = whole->storage;
    for (cnn_tensor *next, *t = from->first_on; t; t = next) {
        next = t->beside;
        t->offset = whole->offset + start;
        memcpy(t->stride, whole->stride, sizeof t->stride);
        t->storage = to;
        to->refs++;
        storage_release(from); /* the last time it goes, which has no memory */
    }
}

static void place_parts(cnn_entry *e) {
    int64_t start = 0;
    for (int i = 0; i < e->n_in; i++) {
        int64_t channels = e->in[i]->size[CHANNELS];
        if (may_lie_within(e->in[i], e->out[0], start)) lie_within(e->in[i], e->out[0], start);
        start += channels;
    }
}

void layout_list(cnn_entry *first) {
    cnn_entry *found[MOST];
    int n = find(first, found);
    if (!n) return;
    round_now++;
    for (cnn_entry *e = first; e; e = e->next) {
        for (int i = 0; i < e->n_in; i++) note(e, e->in[i], 0);
        for (int i = 0; i < e->n_out; i++) note(e, e->out[i], op_runs(e->op));
    }
    while (n--) place_parts(found[n]);
}
