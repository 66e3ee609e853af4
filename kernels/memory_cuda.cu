/* memory_cuda.cu - the card's memory: a caching pool in the order of the one stream.
 *
 * Asking the card for memory costs a millisecond and giving back makes it wait, so segments are
 * kept and cut: best fit, freed neighbours merged. Small blocks share segments of 2 MiB; larger
 * ones get segments in steps of 2 MiB. When the card has no more, what is held and not used is
 * given back first, then the answer is NULL.
 *
 * A captured step keeps its addresses, so what it takes comes from segments that only graphs use;
 * they may share them, since one graph runs after the other and nothing in them is needed longer.
 *
 * Surprising: a block given back may still be read by work under way. Whoever takes it next is
 * later in the stream. Under AddressSanitizer every block is a segment of its own, so that each
 * kernel that steps out of one is seen. */
#include "memory_cuda.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
enum { POOLED = 0 };
#else
enum { POOLED = 1 };
#endif
static const int64_t ALIGN = 256, STEP = 2 << 20, SMALL = 1 << 20;

typedef struct segment segment;

typedef struct block {
    struct block *prev, *next; /* neighbours in the segment */
    struct block *chain;       /* those in use: the next of the same hash; free ones: the next */
    struct block *before;      /* free ones: the previous */
    segment *home;
    char *p;
    int64_t bytes;
} block;

struct segment {
    segment *next;
    block *first;
    char *p;
    int64_t bytes;
    int of_graphs; /* only steps that are captured take from it */
    int small;     /* only blocks up to SMALL do */
};

enum { BUCKETS = 1 << 12 };
static block *used[BUCKETS];
static block *unused;
static segment *segments;
static int capturing;
static k_memory now;

static unsigned bucket_of(const void *p) { return (unsigned)((uintptr_t)p / ALIGN % BUCKETS); }

static void unused_add(block *b) {
    b->before = 0;
    b->chain = unused;
    if (unused) unused->before = b;
    unused = b;
}

static void unused_remove(block *b) {
    if (b->before)
        b->before->chain = b->chain;
    else
        unused = b->chain;
    if (b->chain) b->chain->before = b->before;
}

/* A new segment with one free block, or NULL. */
static block *segment_new(int64_t bytes) {
    int small = POOLED && bytes <= SMALL;
    int64_t size = !POOLED ? bytes : small ? STEP : (bytes + STEP - 1) / STEP * STEP;
    segment *s = (segment *)calloc(1, sizeof *s);
    block *b = (block *)calloc(1, sizeof *b);
    void *p = s && b ? k_card_malloc(size) : 0;
    if (!p) {
        free(s);
        free(b);
        return 0;
    }
    *b = block{0, 0, 0, 0, s, (char *)p, size};
    *s = segment{segments, b, (char *)p, size, capturing, small};
    segments = s;
    now.held += size;
    unused_add(b);
    return b;
}

static block *best_fit(int64_t bytes) {
    block *best = 0;
    int small = POOLED && bytes <= SMALL;
    for (block *b = unused; b; b = b->chain) {
        if (b->bytes < bytes || b->home->of_graphs != capturing || b->home->small != small)
            continue;
        if (!best || b->bytes < best->bytes) best = b;
    }
    return best;
}

/* Cuts b to `bytes`; the rest becomes a free block. Without memory for it b stays as it is. */
static void cut(block *b, int64_t bytes) {
    if (!POOLED || b->bytes - bytes < ALIGN) return;
    if (!b->home->small && b->bytes - bytes < SMALL) return; /* too small to be of use */
    block *rest = (block *)calloc(1, sizeof *rest);
    if (!rest) return;
    *rest = block{b, b->next, 0, 0, b->home, b->p + bytes, b->bytes - bytes};
    if (rest->next) rest->next->prev = rest;
    b->next = rest;
    b->bytes = bytes;
    unused_add(rest);
}

void k_pool_trim(void) {
    for (segment **s = &segments; *s;) {
        segment *gone = *s;
        block *b = gone->first;
        int in_use = b->next != 0;
        for (block *u = used[bucket_of(b->p)]; u; u = u->chain) in_use |= u == b;
        if (in_use || gone->of_graphs) {
            s = &gone->next;
            continue;
        }
        *s = gone->next;
        unused_remove(b);
        now.held -= gone->bytes;
        k_card_free(gone->p);
        free(b);
        free(gone);
    }
}

void *k_pool_take(int64_t bytes) {
    int64_t size = (bytes > 0 ? bytes + ALIGN - 1 : ALIGN) / ALIGN * ALIGN;
    if (!POOLED) size = bytes > 0 ? bytes : 1;
    block *b = best_fit(size);
    if (!b) b = segment_new(size);
    if (!b && !capturing) {
        k_pool_trim();
        b = segment_new(size);
    }
    if (!b) return 0;
    unused_remove(b);
    cut(b, size);
    unsigned at = bucket_of(b->p);
    b->chain = used[at];
    used[at] = b;
    now.in_use += b->bytes;
    if (now.in_use > now.peak) now.peak = now.in_use;
    return b->p;
}

/* Joins b with the free neighbour that follows it. */
static void join(block *b) {
    block *gone = b->next;
    b->bytes += gone->bytes;
    b->next = gone->next;
    if (b->next) b->next->prev = b;
    unused_remove(gone);
    free(gone);
}

static int is_used(const block *b) {
    for (const block *u = used[bucket_of(b->p)]; u; u = u->chain)
        if (u == b) return 1;
    return 0;
}

void k_pool_give(void *p) {
    block **at = &used[bucket_of(p)];
    while (*at && (*at)->p != p) at = &(*at)->chain;
    block *b = *at;
    if (!b) return;
    *at = b->chain;
    now.in_use -= b->bytes;
    unused_add(b);
    if (b->next && !is_used(b->next)) join(b);
    if (b->prev && !is_used(b->prev)) join(b->prev);
    if (!POOLED) k_pool_trim();
}

void k_pool_capture(int on) { capturing = on; }

void k_pool_graphs_gone(void) {
    for (segment *s = segments; s; s = s->next) s->of_graphs = 0;
    k_pool_trim();
}

void k_pool_memory(k_memory *m) { *m = now; }
void k_pool_reset_peak(void) { now.peak = now.in_use; }
