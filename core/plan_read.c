/* plan_read.c - writes a recorded list down as a key: whatever a graph of it would rest on.
 *
 * Surprising: what varies from step to step without another graph is left out: values that an op
 * declares as varying, and which picture of the data set is a batch's first. */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_STORAGES = 1 << 16 };

plan_reading reading;

static void write_bytes(const void *p, int64_t n) {
    if (reading.bytes + n > reading.room) {
        int64_t room = 2 * (reading.bytes + n) + 4096;
        unsigned char *key = realloc(reading.key, (size_t)room);
        if (!key) {
            reading.failed = 1;
            return;
        }
        reading.key = key;
        reading.room = room;
    }
    memcpy(reading.key + reading.bytes, p, (size_t)n);
    reading.bytes += n;
}

static void write_number(int64_t v) { write_bytes(&v, sizeof v); }

static int grow(void) {
    int room = reading.n_room ? 2 * reading.n_room : 1024;
    if (room > MOST_STORAGES) return -1;
    void *storage = realloc(reading.storage, (size_t)room * sizeof *reading.storage);
    if (storage) reading.storage = storage;
    void *external = realloc(reading.external, (size_t)room);
    if (external) reading.external = external;
    void *written = realloc(reading.written, (size_t)room);
    if (written) reading.written = written;
    void *held = realloc(reading.held, (size_t)room * sizeof *reading.held);
    if (held) reading.held = held;
    if (!storage || !external || !written || !held) return -1;
    reading.n_room = room;
    return 0;
}

/* The number of a storage; `output`: it is met as the result of an op. */
static int number_of(cnn_storage *s, int output) {
    if (s->seen == reading.serial) return s->number;
    if (reading.n == reading.n_room && grow() < 0) {
        reading.failed = 1;
        return 0;
    }
    s->seen = reading.serial;
    s->number = reading.n;
    reading.storage[reading.n] = s;
    reading.external[reading.n] = !output;
    reading.written[reading.n] = 0;
    reading.held[reading.n] = 0;
    return reading.n++;
}

/* How an entry has a tensor: an input, or what it makes, or writes in place, or views. */
enum { INPUT, RESULT, IN_PLACE };

/* `saved`: a gradient that is still to come needs its value after the step. */
static void read_tensor(const cnn_tensor *x, int how, int saved) {
    if (!x || !x->storage) {
        write_number(-1);
        return;
    }
    if (tensor_device(x) != DEV_CUDA) reading.failed = 1;
    int number = number_of(x->storage, how == RESULT);
    if (reading.failed) return;
    reading.written[number] |= how != INPUT;
    reading.held[number] += !saved;
    const int64_t head[] = {number, tensor_dtype(x), x->nd, x->offset, how};
    write_bytes(head, sizeof head);
    write_bytes(x->size, x->nd * (int64_t)sizeof *x->size);
    write_bytes(x->stride, x->nd * (int64_t)sizeof *x->stride);
}

static void read_entry(const cnn_entry *e) {
    const cnn_op *op = e->op;
    unsigned char attr[ENTRY_ATTR] = {0}; /* of a view nothing: its tensors say it all */
    int later = e->differentiable && !e->consumed;
    int how = !op_runs(op) ? INPUT : e->writes_in_place ? IN_PLACE : RESULT;
    if (op->moves) reading.failed = 1;
    if (op_runs(op)) memcpy(attr, e->attr, sizeof attr);
    memset(attr + op->varying_at, 0, op->varying_bytes);
    write_number((int64_t)(intptr_t)op);
    write_number((int64_t)e->n_in << 32 | e->n_out);
    write_bytes(attr, sizeof attr);
    for (int i = 0; i < e->n_in; i++)
        read_tensor(e->in[i], INPUT, later && i < 32 && (op->saves_in >> i & 1));
    for (int i = 0; i < e->n_out; i++)
        read_tensor(e->out[i], how, later && i < 32 && (op->saves_out >> i & 1));
}

/* What a storage from outside, or made without an op, is: a value that is there, a constant, the
 * pictures of a batch. */
static void read_storage(int number) {
    const cnn_storage *s = reading.storage[number];
    int filled = !s->data && reading.external[number] ? (int)s->fill : -1;
    const int64_t head[] = {s->count, s->dtype, s->refs > reading.held[number], filled,
                            reading.written[number]};
    write_bytes(head, sizeof head);
    if (filled == FILL_IMAGES || filled == FILL_LABELS) {
        k_images shape = pictures_shape(s);
        const void *at[2];
        pictures_at(s, at);
        shape.first = 0;
        write_bytes(at, sizeof at);
        write_bytes(&shape, sizeof shape);
    } else if (filled == FILL_CONST || filled == FILL_RANGE) {
        write_bytes(&s->fill_a, sizeof s->fill_a);
        write_bytes(&s->fill_b, sizeof s->fill_b);
    } else if (filled == FILL_UNIFORM || filled == FILL_NORMAL)
        reading.failed = 1; /* drawn once, outside any step */
}

int is_pictures(const cnn_storage *s) {
    return !s->data && (s->fill == FILL_IMAGES || s->fill == FILL_LABELS);
}

/* What somebody else holds gets its memory outside the graphs. */
static int externals_ready(void) {
    for (int i = 0; i < reading.n; i++) {
        cnn_storage *s = reading.storage[i];
        if (!reading.external[i] || s->data || is_pictures(s) || s->refs == reading.held[i])
            continue;
        if (storage_ready(s) < 0) return -1;
    }
    return 0;
}

int plan_read(const cnn_entry *first, uint64_t settings) {
    reading.serial++;
    reading.n = 0;
    reading.bytes = 0;
    reading.failed = 0;
    write_number((int64_t)settings);
    int joins = 0;
    for (const cnn_entry *e = first; e && !reading.failed; e = e->next) {
        joins = joins > 1 ? joins - 1 : entry_joins(e);
        write_number(joins);
        read_entry(e);
    }
    if (!reading.failed && externals_ready() < 0) return -1;
    for (int i = 0; i < reading.n && !reading.failed; i++) read_storage(i);
    return !reading.failed;
}

uint64_t plan_key_hash(void) { /* FNV-1a, a word at a time */
    const unsigned char *p = reading.key;
    int64_t n = reading.bytes;
    uint64_t h = 14695981039346656037u, word;
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, sizeof word);
        h = (h ^ word) * 1099511628211u;
        h ^= h >> 32;
    }
    return h;
}
