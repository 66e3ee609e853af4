/* plan.c - a recorded step on the card, captured once as a graph and then replayed.
 *
 * The list of a step is written down as a key: its ops, their attributes, the sizes and strides of
 * their tensors, who shares memory with whom, what outlives the step. The first time a key is met
 * the list runs plainly, so that libraries load and choose; the second time it is captured; from
 * then on one call replays it. Keys are compared whole, never by their hash alone, so a plan is
 * never used for another list.
 *
 * What may change under one key: values that an op declares as varying, and the first picture of a
 * batch, go up in one small block before the graph; a tensor from outside that lies elsewhere than
 * it did is copied to where the graph reads it, or, when the graph writes it, captured anew.
 *
 * Surprising: a graph's memory is shared by all graphs, since none of it is needed after the step:
 * what survives (a loss, the outputs, gradients) is copied out as soon as the graph was asked for.
 */
#include "core.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_PLANS = 24,   /* the one used longest ago gives way */
    MOST_CAPTURES = 8, /* of one plan; a step that moves about so much runs plainly */
    WORTH = 16,        /* replays after which a capture has paid for itself */
    MOST_STORAGES = 1 << 16
};

typedef struct {
    void *at; /* where the graph reads and writes it; external: where it lay */
    int64_t bytes;
    unsigned char external, written, survives, copied;
    unsigned char pictures; /* filled from a data set, by the graph */
} slot;

typedef struct {
    uint64_t hash, used;
    int64_t key_bytes;
    unsigned char *key;
    int slots, captures, replays;
    slot *slot;
    void *live;     /* what varies, on the card */
    k_graph *graph; /* NULL: not captured yet */
    int plain;      /* runs plainly for ever */
} plan;

static plan *plans[MOST_PLANS];
static uint64_t clock_now, settings;
static int64_t ran;
static int capturing, running;

int plan_capturing(void) { return capturing; }
int64_t cnn_cuda_graphs(void) { return ran; }

/* ----------------------------------------------------------------------------- reading the list */

static struct {
    unsigned char *key;
    int64_t bytes, room;
    cnn_storage **storage; /* by number */
    unsigned char *external, *written;
    int *held; /* references by entries of the list */
    int n, n_room;
    uint64_t serial;
    int failed;
} reading;

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

static int is_pictures(const cnn_storage *s) {
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

/* Reads the list into `reading`; 1, 0 when no graph can hold it, or -1. */
static int read_list(const cnn_entry *first) {
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

static uint64_t hash_of(const unsigned char *p, int64_t n) { /* FNV-1a, a word at a time */
    uint64_t h = 14695981039346656037u, word;
    for (int64_t i = 0; i + 8 <= n; i += 8) {
        memcpy(&word, p + i, sizeof word);
        h = (h ^ word) * 1099511628211u;
        h ^= h >> 32;
    }
    return h;
}

/* ------------------------------------------------------------------------------------ the plans */

static void graph_drop(plan *p) {
    if (!p->graph) return;
    card()->graph_free(p->graph);
    p->graph = 0;
}

static void plan_free(plan *p) {
    if (!p) return;
    graph_drop(p);
    free(p->key);
    free(p->slot);
    free(p);
}

void plan_forget(void) {
    settings++;
    for (int i = 0; i < MOST_PLANS; i++) {
        plan_free(plans[i]);
        plans[i] = 0;
    }
}

int plan_make_room(void) {
    int any = 0;
    for (int i = 0; i < MOST_PLANS && !running; i++) {
        if (!plans[i] || !plans[i]->graph) continue;
        graph_drop(plans[i]);
        any = 1;
    }
    return any;
}

static plan *plan_find(uint64_t hash) {
    for (int i = 0; i < MOST_PLANS; i++) {
        plan *p = plans[i];
        if (p && p->hash == hash && p->key_bytes == reading.bytes &&
            !memcmp(p->key, reading.key, (size_t)reading.bytes))
            return p;
    }
    return 0;
}

/* Remembers that this key was met; without memory for it nothing is lost. */
static void plan_note(uint64_t hash) {
    int at = 0;
    for (int i = 0; i < MOST_PLANS; i++) {
        if (!plans[i]) {
            at = i;
            break;
        }
        if (plans[i]->used < plans[at]->used) at = i;
    }
    plan *p = calloc(1, sizeof *p);
    if (p) {
        p->key = malloc((size_t)reading.bytes);
        p->slot = calloc((size_t)reading.n + 1, sizeof *p->slot);
    }
    if (!p || !p->key || !p->slot) {
        plan_free(p);
        return;
    }
    memcpy(p->key, reading.key, (size_t)reading.bytes);
    p->key_bytes = reading.bytes;
    p->slots = reading.n;
    p->hash = hash;
    p->used = ++clock_now;
    plan_free(plans[at]);
    plans[at] = p;
}

/* --------------------------------------------------------------------------------- what varies */

static int64_t rounded(int64_t bytes) { return (bytes + 15) / 16 * 16; }

static struct { /* what varies in the list that was read, as it goes up */
    unsigned char *block;
    int64_t bytes, room;
} varying;

static int varying_add(const void *p, int64_t n) {
    int64_t bytes = varying.bytes + rounded(n);
    if (bytes > varying.room) {
        unsigned char *block = realloc(varying.block, (size_t)(2 * bytes));
        if (!block) return fail("out of memory");
        varying.block = block;
        varying.room = 2 * bytes;
    }
    memset(varying.block + varying.bytes, 0, (size_t)rounded(n));
    memcpy(varying.block + varying.bytes, p, (size_t)n);
    varying.bytes = bytes;
    return 0;
}

/* The values of each entry, then each batch of pictures, in a fixed order: while the entries are
 * there. */
static int varying_gather(const cnn_entry *first) {
    int rc = 0;
    varying.bytes = 0;
    for (const cnn_entry *e = first; e && !rc; e = e->next)
        if (e->op->varying_bytes)
            rc = varying_add(e->attr + e->op->varying_at, e->op->varying_bytes);
    for (int i = 0; i < reading.n && !rc; i++) {
        if (!is_pictures(reading.storage[i])) continue;
        k_images shape = pictures_shape(reading.storage[i]);
        rc = varying_add(&shape, sizeof shape);
    }
    return rc;
}

static int varying_upload(const plan *p) {
    if (!varying.bytes) return 0;
    return card_asked("step", card()->upload(p->live, varying.block, varying.bytes));
}

/* ------------------------------------------------------------------------------------- capturing
 */

static int64_t storage_bytes(const cnn_storage *s) { return s->count * dtype_bytes[s->dtype]; }

/* Writes down where everything from outside lies; what was found elsewhere before is copied from
 * now on. */
static void slots_set(plan *p, int again) {
    for (int i = 0; i < p->slots; i++) {
        const cnn_storage *s = reading.storage[i];
        slot *t = &p->slot[i];
        int moved = again && t->external && !t->copied && t->at != s->data;
        int copied = t->copied || (moved && !reading.written[i]);
        *t = (slot){.at = s->data,
                    .bytes = storage_bytes(s),
                    .external = reading.external[i] && s->data != 0,
                    .written = reading.written[i],
                    .survives = s->refs > reading.held[i] && !reading.external[i],
                    .copied = (unsigned char)copied,
                    .pictures = (unsigned char)is_pictures(s)};
    }
}

/* The pictures of a batch get graph memory and are gathered by the graph. */
static int capture_pictures(plan *p, int64_t at) {
    for (int i = 0; i < p->slots; i++) {
        cnn_storage *s = reading.storage[i];
        if (!p->slot[i].pictures) continue;
        if (!(p->slot[i].at = s->data = card_take(p->slot[i].bytes))) return -1;
        card()->live((char *)p->live + at);
        pictures_fill(s);
        card()->live(0);
        at += rounded(sizeof(k_images));
    }
    return 0;
}

/* Runs the list into the graph being captured. The entries are gone when it returns. */
static int capture_list(plan *p, cnn_entry *first) {
    int64_t at = 0, joined = 0, pictures_at = 0;
    for (const cnn_entry *e = first; e; e = e->next) pictures_at += rounded(e->op->varying_bytes);
    if (capture_pictures(p, pictures_at) < 0) return -1;
    for (cnn_entry *e = first, *next; e; e = next) {
        joined = entry_joins(e);
        next = e;
        unsigned n = e->op->varying_bytes;
        card()->live(n ? (char *)p->live + at : 0);
        for (int64_t i = 0; i < joined; i++, next = next->next)
            at += rounded(next->op->varying_bytes);
        if (tape_run_next() < 0) return -1;
    }
    card()->live(0);
    return 0;
}

static void swap_copied(const plan *p, void **there) {
    for (int i = 0; i < p->slots; i++) {
        if (!p->slot[i].copied) continue;
        void *data = reading.storage[i]->data;
        reading.storage[i]->data = there[i];
        there[i] = data;
    }
}

/* What is looked at when the entries are gone stays until then; the rest goes at its last use,
 * while the list is captured as when it runs. */
static int is_needed(const slot *t) { return t->survives || t->external || t->pictures; }

static void hold_storages(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (is_needed(&p->slot[i])) reading.storage[i]->refs++;
}

static void drop_storages(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (is_needed(&p->slot[i])) storage_release(reading.storage[i]);
}

/* Memory of the graph's own for what varies and what is copied; `there` gets the latter. */
static int plan_memory(plan *p, void **there) {
    p->live = 0;
    if (varying.bytes && !(p->live = card_take(varying.bytes))) return -1;
    for (int i = 0; i < p->slots; i++)
        if (p->slot[i].copied && !(there[i] = card_take(p->slot[i].bytes))) return -1;
    return 0;
}

static void plan_memory_give(const plan *p, void **there) {
    device_give(DEV_CUDA, p->live, 0);
    for (int i = 0; i < p->slots; i++) device_give(DEV_CUDA, there[i], 0);
}

/* After the list ran into the graph: where survivors lie, and the batch is to be drawn anew by
 * whoever looks at it. */
static void slots_finish(plan *p, void **there) {
    for (int i = 0; i < p->slots; i++) {
        cnn_storage *s = reading.storage[i];
        slot *t = &p->slot[i];
        if (t->pictures) {
            device_give(DEV_CUDA, s->data, 0);
            s->data = 0;
        } else if (t->survives) {
            t->at = s->data;
            device_give(DEV_CUDA, s->data, 0); /* still the graph's: its segment is */
            s->data = 0;
        } else if (t->copied)
            t->at = there[i];
    }
}

/* Captures the list; the entries are gone whatever comes of it. */
static int capture(plan *p, cnn_entry *first, int again) {
    void **there = calloc((size_t)p->slots + 1, sizeof *there);
    graph_drop(p);
    slots_set(p, again);
    hold_storages(p);
    if (!there) return fail("out of memory");
    int rc = card_asked("step", card()->capture_begin());
    if (!rc) {
        capturing = 1;
        rc = plan_memory(p, there);
        swap_copied(p, there);
        if (!rc) rc = capture_list(p, first);
        swap_copied(p, there);
        capturing = 0;
        p->graph = card()->capture_end(rc == 0);
        slots_finish(p, there);
        plan_memory_give(p, there);
        if (!rc && !p->graph) rc = card_asked("step", -1);
    }
    p->captures++;
    p->replays = 0;
    if (rc) p->plain = 1;
    free(there);
    return rc;
}

/* -------------------------------------------------------------------------------------- running */

/* What survives the step gets memory of its own: before the graph changes anything. */
static int survivors_ready(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (p->slot[i].survives && !(reading.storage[i]->data = card_take(p->slot[i].bytes)))
            return -1;
    return 0;
}

static int copy_out(const plan *p) {
    int rc = 0;
    for (int i = 0; i < p->slots && !rc; i++)
        if (p->slot[i].survives)
            rc = card_asked(
                "step", card()->copy(reading.storage[i]->data, p->slot[i].at, p->slot[i].bytes));
    return rc;
}

static int copy_in(const plan *p) {
    int rc = 0;
    for (int i = 0; i < p->slots && !rc; i++)
        if (p->slot[i].copied)
            rc = card_asked(
                "step", card()->copy(p->slot[i].at, reading.storage[i]->data, p->slot[i].bytes));
    return rc;
}

/* Whether everything from outside lies where the graph reads and writes it, or is copied there. */
static int still_there(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (p->slot[i].external && !p->slot[i].copied && p->slot[i].at != reading.storage[i]->data)
            return 0;
    return 1;
}

/* Asks for the graph; the list's entries are gone or still pending. */
static int graph_ask(plan *p) {
    int rc = survivors_ready(p);
    if (!rc) rc = copy_in(p);
    if (!rc) rc = card_asked("step", card()->graph_run(p->graph));
    if (!rc) rc = copy_out(p);
    if (!rc) rc = card_check("step");
    if (!rc) ran++;
    return rc;
}

static void lose_survivors(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (p->slot[i].survives) reading.storage[i]->lost = 1;
}

static int replay(plan *p, cnn_entry *first) {
    int rc = varying_gather(first);
    if (!rc) rc = varying_upload(p);
    hold_storages(p);
    if (!rc) tape_count_as_run();
    if (!rc) rc = graph_ask(p);
    if (rc) lose_survivors(p);
    drop_storages(p);
    if (!rc && ++p->replays == WORTH) p->captures = 0;
    return rc;
}

static int capture_and_run(plan *p, cnn_entry *first, int again) {
    if (varying_gather(first) < 0) return -1;
    int rc = capture(p, first, again);
    if (!rc) rc = varying_upload(p);
    if (!rc) rc = graph_ask(p);
    if (rc) lose_survivors(p);
    drop_storages(p);
    return rc;
}

int plan_run(cnn_entry *first) {
    if (!card() || tensor_device(first->n_out ? first->out[0] : first->in[0]) != DEV_CUDA) return 0;
    if (cnn_interrupted() || card_waits() || getenv("CNN_NO_GRAPHS")) return 0;
    if (tape_lasting_ready() < 0) return -1;
    int fits = read_list(first);
    if (fits <= 0) return fits;
    uint64_t hash = hash_of(reading.key, reading.bytes);
    plan *p = plan_find(hash);
    if (!p) {
        plan_note(hash);
        return 0;
    }
    p->used = ++clock_now;
    if (p->plain) return 0;
    int there = p->graph && still_there(p);
    if (!there && p->captures == MOST_CAPTURES) {
        p->plain = 1;
        graph_drop(p);
        return 0;
    }
    running = 1;
    int rc = there ? replay(p, first) : capture_and_run(p, first, p->graph != 0);
    running = 0;
    if (rc < 0) plan_make_room(); /* it may have been memory that was missing */
    return rc < 0 ? -1 : 1;
}
