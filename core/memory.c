/* memory.c - the engine's memory: one arena, best fit, freed neighbours merged.
 *
 * A training step takes and gives back the same large blocks again and again; the C library would
 * map and unmap them each time and pay a page fault for every 4 KiB. The arena is a range of
 * addresses reserved once; pages become real when touched, and stay for the next block.
 *
 * Surprising: blocks under 64 KiB come from malloc, so that a million small tensors do not make the
 * list of blocks long. Under AddressSanitizer every block comes from malloc, so that it is seen. */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define CNN_MALLOC_ONLY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CNN_MALLOC_ONLY 1
#endif
#endif
#ifndef CNN_MALLOC_ONLY
#define CNN_MALLOC_ONLY 0
#endif

enum { ALIGN = 64, SMALL = 64 << 10 };
static const int64_t RESERVE = (int64_t)1 << 40; /* addresses, not memory */
static const int64_t HUGE = 2 << 20;

/* Stands in the 64 bytes before each block of the arena; a list in the order of addresses. */
typedef struct block {
    struct block *prev, *next;
    int64_t bytes; /* with this header */
    int free;
} block;

static char *arena;           /* NULL before the first use, or when it could not be reserved */
static int64_t arena_used;    /* bytes below the end of the last block */
static int64_t arena_touched; /* the most that arena_used has been */
static int no_arena = CNN_MALLOC_ONLY;
static block *last;
static int64_t alive, peak;

int64_t cnn_bytes_alive(void) { return alive + (card() ? card()->in_use() : 0); }
int64_t cnn_bytes_peak(void) { return peak; }
void cnn_reset_peak(void) { peak = alive; }

/* What the system could still give, in bytes; a large number when it does not say. */
static int64_t system_available(void) {
    long long kib = -1;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld", &kib) == 1) break;
    if (f) fclose(f);
    return kib < 0 ? INT64_MAX / 4 : kib * 1024;
}

static int refuse(int64_t bytes) {
    return fail("out of memory: %.1f MB more asked for, %.1f MB held by tensors, %.1f MB free; a "
                "smaller batch or image needs less",
                (double)bytes / 1e6, (double)alive / 1e6, (double)system_available() / 1e6);
}

static void arena_open(void) {
    if (arena || no_arena) return;
    void *p = mmap(0, (size_t)RESERVE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        no_arena = 1;
        return;
    }
    arena = (char *)(((uintptr_t)p + (uintptr_t)HUGE - 1) & ~((uintptr_t)HUGE - 1));
#ifdef MADV_HUGEPAGE
    madvise(arena, (size_t)(RESERVE - HUGE), MADV_HUGEPAGE); /* fewer TLB misses; may be refused */
#endif
}

static block *block_after(int64_t bytes) {
    if (arena_used + bytes > RESERVE - HUGE) return 0;
    int64_t grown = arena_used + bytes - arena_touched;
    if (grown > 0 && grown > system_available()) return 0;
    block *b = (block *)(arena + arena_used);
    b->prev = last;
    b->next = 0;
    b->bytes = bytes;
    if (last) last->next = b;
    last = b;
    arena_used += bytes;
    if (arena_used > arena_touched) arena_touched = arena_used;
    return b;
}

static void *arena_take(int64_t bytes) {
    block *best = 0;
    for (block *b = last; b; b = b->prev)
        if (b->free && b->bytes >= bytes && (!best || b->bytes < best->bytes)) best = b;
    if (best && best->bytes - bytes > SMALL) { /* the rest stays free */
        block *rest = (block *)((char *)best + bytes);
        *rest = (block){best, best->next, best->bytes - bytes, 1};
        if (rest->next)
            rest->next->prev = rest;
        else
            last = rest;
        best->next = rest;
        best->bytes = bytes;
    }
    if (!best) best = block_after(bytes);
    if (!best) return 0;
    best->free = 0;
    return (char *)best + ALIGN;
}

static void arena_give(void *p) {
    block *b = (block *)((char *)p - ALIGN);
    b->free = 1;
    if (b->next && b->next->free) { /* merge with what follows */
        block *n = b->next;
        b->bytes += n->bytes;
        b->next = n->next;
        if (n->next)
            n->next->prev = b;
        else
            last = b;
    }
    if (b->prev && b->prev->free) { /* and with what precedes */
        block *q = b->prev;
        q->bytes += b->bytes;
        q->next = b->next;
        if (b->next)
            b->next->prev = q;
        else
            last = q;
        b = q;
    }
    if (b == last) { /* the end of the arena moves back; its pages stay */
        arena_used -= b->bytes;
        last = b->prev;
        if (last) last->next = 0;
    }
}

static int64_t rounded(int64_t bytes) {
    return (bytes + (bytes >= SMALL ? ALIGN : 0) + ALIGN) / ALIGN * ALIGN;
}

void *memory_take(int64_t bytes) {
    if (bytes < 0 || bytes > RESERVE / 2) {
        refuse(bytes);
        return 0;
    }
    void *p = 0;
    int64_t total = rounded(bytes);
    if (bytes >= SMALL) arena_open();
    if (bytes >= SMALL && !no_arena)
        p = arena_take(total);
    else if (bytes < SMALL || total <= system_available())
        p = aligned_alloc(ALIGN, (size_t)total);
    if (!p) {
        refuse(bytes);
        return 0;
    }
    alive += total;
    if (alive > peak) peak = alive;
    return p;
}

void memory_give(void *p, int64_t bytes) {
    if (!p) return;
    alive -= rounded(bytes);
    if (bytes >= SMALL && !no_arena)
        arena_give(p);
    else
        free(p);
}
