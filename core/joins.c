/* joins.c - entries of a recorded list that run as one: which neighbours may, and how those that
 * could become neighbours.
 *
 * An op says how many entries from one on it runs at once (cnn_op.joins); what stands here are its
 * questions. A list is put in order before it is looked at or runs: an entry moves up where nothing
 * that it passes writes what it takes, or takes what it writes.
 *
 * Surprising: storages carry the marks of whoever looks, with the number of the look, so that
 * nothing is to be cleared, and a list is gone through once. */
#include "core.h"

#include <string.h>

/* ---------------------------------------------------------------------------------- neighbours */

/* y may be made from what would have lain as x does: element for element, or row for row. */
static int may_chain(const cnn_tensor *x, const cnn_tensor *y) {
    int64_t ldx, ldy;
    return tensor_same_dense_layout(x, y) ||
           (tensor_same_shape(x, y) && x->nd == 4 && tensor_is_pixels(x, &ldx) &&
            tensor_is_pixels(y, &ldy));
}

const cnn_entry *joins_next(const cnn_entry *e, const cnn_op *op, int at) {
    const cnn_entry *f = e->next;
    const cnn_storage *s = e->out[0]->storage;
    if (!f || f->op != op || f->writes_in_place || !f->in[at] || f->in[at]->storage != s) return 0;
    int mine = 1; /* references by e and f */
    for (int i = 0; i < f->n_in; i++) mine += f->in[i] && f->in[i]->storage == s;
    if (mine != 2 || s->refs != mine || s->data) return 0;
    return may_chain(f->in[at], f->out[0]) ? f : 0;
}

/* Marks of a look at some entries: 2 * look what they read, 2 * look + 1 what they write. */
static uint64_t look;

static void mark_written(const cnn_entry *e) {
    for (int i = 0; i < e->n_out; i++) e->out[i]->storage->touched = 2 * look + 1;
}

/* None of those marked writes what e takes. */
static int inputs_stand(const cnn_entry *e) {
    int stand = 1;
    for (int i = 0; i < e->n_in; i++)
        stand &= !e->in[i] || e->in[i]->storage->touched != 2 * look + 1;
    return stand;
}

/* Whether f may run at once with those marked: none of them writes what it touches, and it writes
 * nothing that they touch. It is marked then. */
static int out_of_the_way(const cnn_entry *f) {
    int clear = inputs_stand(f);
    for (int i = 0; i < f->n_out; i++) clear &= f->out[i]->storage->touched < 2 * look;
    for (int i = 0; i < f->n_in; i++)
        if (f->in[i]) f->in[i]->storage->touched = 2 * look;
    mark_written(f);
    return clear;
}

int joins_equals(const cnn_entry *e) {
    int n = 1;
    look++;
    out_of_the_way(e);
    for (const cnn_entry *f = e->next; f && f->op == e->op && n < MOST_JOINED; f = f->next, n++)
        if (memcmp(f->attr, e->attr, sizeof e->attr) || f->n_out != e->n_out ||
            tensor_device(f->out[0]) != tensor_device(e->out[0]) || !out_of_the_way(f))
            break;
    return n;
}

/* --------------------------------------------------------------------------------------- order */

/* Entries on a card that gather go up to the first of them. What they make is new, so it is enough
 * that what they take stands by then. */
static void gather(cnn_entry **first, cnn_entry **last) {
    cnn_entry *group = 0, *before = 0; /* the last of the group; the entry in front of e */
    look++;
    for (cnn_entry *next, *e = *first; e; e = next) {
        next = e->next;
        int joins = e->op->gathers && tensor_device(e->out[0]) == DEV_CUDA &&
                    (!group || (group->op == e->op && inputs_stand(e)));
        if (!joins && group) mark_written(e);
        if (joins && group && group != before) {
            before->next = next;
            if (*last == e) *last = before;
            e->next = group->next;
            group->next = e;
        } else
            before = e;
        if (joins) group = e;
    }
}

/* Does f read or write what e writes? */
static int touch(const cnn_entry *e, const cnn_entry *f) {
    for (int i = 0; i < e->n_out; i++) {
        const cnn_storage *s = e->out[i]->storage;
        for (int k = 0; k < f->n_in + f->n_out; k++) {
            const cnn_tensor *x = k < f->n_in ? f->in[k] : f->out[k - f->n_in];
            if (x && x->storage == s) return 1;
        }
    }
    return 0;
}

/* Entries that come early change places with the one in front of them. */
static void come_early(cnn_entry **first, cnn_entry **last) {
    for (cnn_entry **at = first; *at && (*at)->next; at = &(*at)->next) {
        cnn_entry *e = *at, *f = e->next;
        if (!f->op->early || e->op->early || touch(e, f) || touch(f, e)) continue;
        e->next = f->next;
        f->next = e;
        *at = f;
        if (*last == f) *last = e;
    }
}

void joins_order(cnn_entry **first, cnn_entry **last) {
    gather(first, last);
    come_early(first, last);
}
