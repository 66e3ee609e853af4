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
 * Where memory runs out while a list is captured, what was captured so far is done at once and the
 * rest runs plainly, with the memory that the graphs had; the next runs are plain, too.
 *
 * Surprising: a graph's memory is shared by all graphs, since none of it is needed after the step:
 * what survives (a loss, the outputs, gradients) is copied out as soon as the graph was asked for.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_PLANS = 24,   /* the one used longest ago gives way */
    MOST_CAPTURES = 8, /* of one plan; a step that moves about so much runs plainly */
    WORTH = 16,        /* replays after which a capture has paid for itself */
    PATIENCE = 8,      /* plain runs after memory was missing; twice as many each time */
    MOST_PATIENCE = 1024
};

typedef struct {
    void *at; /* where the graph reads and writes it; external: where it lay */
    /* While it is captured or replayed. Copied: the graph's memory for it. Survives: memory outside
     * the graph. */
    void *there;
    int64_t bytes;
    unsigned char external, written, survives, copied;
    unsigned char pictures; /* filled from a data set, by the graph */
} slot;

typedef struct {
    uint64_t hash, used;
    int64_t key_bytes;
    unsigned char *key;
    int slots, captures, replays;
    int patience, wait; /* so many plain runs are to come before it is captured again */
    slot *slot;
    void *live;     /* what varies, on the card */
    k_graph *graph; /* NULL: not captured yet */
    int plain;      /* runs plainly for ever */
} plan;

static plan *plans[MOST_PLANS];
static uint64_t clock_now, settings;
static int64_t ran;
static plan *capturing; /* NULL: none */

int plan_capturing(void) { return capturing != 0; }
int64_t cnn_cuda_graphs(void) { return ran; }

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
    if (!varying.bytes || !p->live) return 0;
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

/* Where the op captured next finds what varies. What runs at once has it in its attributes. */
static void set_live(const plan *p, int64_t at) {
    card()->live(capturing && p->live ? (char *)p->live + at : 0);
}

/* The pictures of a batch get graph memory and are gathered by the graph. */
static int capture_pictures(plan *p, int64_t at) {
    for (int i = 0; i < p->slots; i++) {
        cnn_storage *s = reading.storage[i];
        if (!p->slot[i].pictures) continue;
        if (!(p->slot[i].at = s->data = card_take(p->slot[i].bytes))) return -1;
        set_live(p, at);
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
        if (e->op->varying_bytes) set_live(p, at);
        for (int64_t i = 0; i < joined; i++, next = next->next)
            at += rounded(next->op->varying_bytes);
        int rc = tape_run_next();
        card()->live(0);
        if (rc < 0) return -1;
    }
    return 0;
}

/* While the list is captured, its storages lie where the graph will read them. */
static void swap_copied(const plan *p, int in) {
    for (int i = 0; i < p->slots; i++) {
        const slot *t = &p->slot[i];
        if (t->copied) reading.storage[i]->data = in ? t->there : t->at;
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

/* What was taken for survivors, or else for what is copied. */
static void there_give(plan *p, int survivors) {
    for (int i = 0; i < p->slots; i++) {
        slot *t = &p->slot[i];
        if (t->survives != survivors) continue;
        device_give(DEV_CUDA, t->there, 0);
        t->there = 0;
    }
}

/* Memory of the graph's own for what varies and what is copied; without it the capture stops. */
static void graph_memory(plan *p) {
    p->live = 0;
    if (varying.bytes) p->live = card_take(varying.bytes);
    for (int i = 0; i < p->slots && capturing; i++)
        if (p->slot[i].copied) p->slot[i].there = card_take(p->slot[i].bytes);
}

/* Memory outside the graphs for what survives the step: before anything is done, so that where
 * there is none the list can still run plainly. */
static int survivors_ready(plan *p) {
    for (int i = 0; i < p->slots; i++) {
        slot *t = &p->slot[i];
        if (!t->survives || (t->there = card_take(t->bytes))) continue;
        there_give(p, 1);
        return -1;
    }
    return 0;
}

static void put_off(plan *p) {
    p->patience = !p->patience                  ? PATIENCE
                  : p->patience < MOST_PATIENCE ? 2 * p->patience
                                                : p->patience;
    p->wait = p->patience;
}

/* Memory ran out within a capture: what was captured is done at once, the rest runs op by op. */
static int capture_stop(void) {
    plan *p = capturing;
    capturing = 0;
    k_graph *part = card()->capture_end(1);
    int rc = part ? varying_upload(p) : -1;
    for (int i = 0; i < p->slots && !rc; i++) {
        const slot *t = &p->slot[i];
        if (t->copied && t->there) rc = card()->copy(t->there, t->at, t->bytes);
    }
    if (!rc) rc = card()->graph_run(part);
    if (part) card()->graph_free(part);
    put_off(p);
    there_give(p, 1);
    return rc;
}

int plan_make_room(void) {
    int any = capturing != 0;
    if (any && capture_stop() < 0) return 0;
    for (int i = 0; i < MOST_PLANS; i++) {
        if (!plans[i] || !plans[i]->graph) continue;
        graph_drop(plans[i]);
        any = 1;
    }
    return any;
}

/* After the list ran into the graph: where survivors lie, and the batch is to be drawn anew by
 * whoever looks at it. */
static void slots_finish(plan *p, int stopped) {
    for (int i = 0; i < p->slots; i++) {
        cnn_storage *s = reading.storage[i];
        slot *t = &p->slot[i];
        if (t->copied) t->at = t->there;
        if (!t->pictures && (!t->survives || stopped)) continue;
        t->at = s->data;
        device_give(DEV_CUDA, s->data, 0); /* still the graph's: its segment is */
        s->data = 0;
    }
}

/* Captures the list. 1: there is a graph; 0: there is none, but the list has run, or is to run
 * plainly; -1. */
static int capture(plan *p, cnn_entry *first) {
    if (survivors_ready(p) < 0 || card()->capture_begin() < 0) {
        there_give(p, 1);
        put_off(p);
        return 0;
    }
    capturing = p;
    int rc = 0;
    graph_memory(p);
    if (capturing) {
        swap_copied(p, 1);
        rc = capture_list(p, first);
        swap_copied(p, 0);
        int stopped = !capturing;
        if (!stopped) p->graph = card()->capture_end(rc == 0);
        capturing = 0;
        slots_finish(p, stopped);
        if (!rc && !stopped && !p->graph) rc = card_asked("step", -1);
    }
    device_give(DEV_CUDA, p->live, 0);
    there_give(p, 0);
    if (!p->graph) there_give(p, 1);
    p->captures += p->graph != 0;
    p->replays = 0;
    if (rc) p->plain = 1;
    return rc ? -1 : p->graph != 0;
}

/* -------------------------------------------------------------------------------------- running */

/* What survives gets the memory that was taken for it, and the graph's values. */
static int copy_out(plan *p) {
    int rc = 0;
    for (int i = 0; i < p->slots; i++) {
        slot *t = &p->slot[i];
        if (!t->survives) continue;
        reading.storage[i]->data = t->there;
        t->there = 0;
        if (!rc) rc = card()->copy(reading.storage[i]->data, t->at, t->bytes);
    }
    return card_asked("step", rc);
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

/* Asks for the graph; the list's entries are gone. */
static int graph_ask(plan *p) {
    int rc = varying_upload(p);
    if (!rc) rc = copy_in(p);
    if (!rc) rc = card_asked("step", card()->graph_run(p->graph));
    if (!rc) rc = copy_out(p);
    if (!rc) rc = card_check("step");
    if (!rc) ran++;
    if (rc) there_give(p, 1);
    return rc;
}

static void lose_survivors(const plan *p) {
    for (int i = 0; i < p->slots; i++)
        if (p->slot[i].survives) reading.storage[i]->lost = 1;
}

/* 1: it ran; 0: the list is to run plainly, for memory was missing that the graph stood in the way
 * of; -1. */
static int replay(plan *p, cnn_entry *first) {
    if (varying_gather(first) < 0) return -1;
    if (survivors_ready(p) < 0 || !p->graph) {
        there_give(p, 1);
        put_off(p);
        return 0;
    }
    hold_storages(p);
    tape_count_as_run();
    int rc = graph_ask(p);
    if (rc) lose_survivors(p);
    drop_storages(p);
    if (!rc && ++p->replays == WORTH) p->captures = p->patience = 0;
    return rc ? -1 : 1;
}

static int capture_and_run(plan *p, cnn_entry *first) {
    if (varying_gather(first) < 0) return -1;
    int again = p->graph != 0;
    graph_drop(p);
    slots_set(p, again);
    hold_storages(p);
    int rc = capture(p, first);
    if (rc > 0) rc = graph_ask(p) < 0 ? -1 : 1;
    if (rc < 0) lose_survivors(p);
    drop_storages(p);
    return rc;
}

int plan_run(cnn_entry *first) {
    if (!card() || tensor_device(first->n_out ? first->out[0] : first->in[0]) != DEV_CUDA) return 0;
    if (cnn_interrupted() || card_waits() || getenv("CNN_NO_GRAPHS")) return 0;
    if (tape_lasting_ready() < 0) return -1;
    int fits = plan_read(first, settings);
    if (fits <= 0) return fits;
    uint64_t hash = plan_key_hash();
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
    if (!there && p->wait) {
        p->wait--;
        return 0;
    }
    int rc = there ? replay(p, first) : capture_and_run(p, first);
    if (rc < 0) plan_make_room(); /* it may have been memory that was missing */
    return rc;
}
