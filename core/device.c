/* device.c - the CUDA device, as far as the engine knows it: a library that is opened when somebody
 * first asks for it, and what it answers, as errors of the engine.
 *
 * The library is $CNN_CUDA_LIB, or libcnn_cuda.so beside the program or libcnn.so, or in ../lib.
 * Nothing of CUDA is needed to build or run without it. A process uses one card.
 *
 * Surprising: the card works behind the host's back. An op's error may show at a later op, unless
 * CNN_SYNC=1 makes each op wait for its result. */
#define _GNU_SOURCE
#include "core.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const k_device *library; /* NULL: not opened */
static k_table table, narrow_table;
static k_precision precision = K_TF32_CONV; /* of every device, as far as it knows it */
static int opened = -1, sync_each = -1;
static char library_path[512], name[16];

/* --------------------------------------------------------------------------------- the library */

/* Opens the file; the entry's name is found in it, and it was built with these headers. */
static const k_device *library_of(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    k_device_open *open = 0;
    if (!handle) return fail_null("no CUDA device: %s; use device cpu", dlerror());
    void *entry = dlsym(handle, "cnn_cuda_device");
    memcpy(&open, &entry, sizeof open);
    const k_device *d = open ? open() : 0;
    if (d && d->version == K_DEVICE_VERSION && d->table_bytes == sizeof(k_table)) return d;
    dlclose(handle);
    return fail_null("no CUDA device: %s is of another build of cnnlua; build both with make",
                     path);
}

static int exists(const char *path) {
    FILE *f = fopen(path, "re");
    if (f) fclose(f);
    return f != 0;
}

/* Beside whatever holds this code, the program or libcnn.so, or in the lib directory beside its. */
static int library_find(void) {
    static const char *const places[] = {"libcnn_cuda.so", "../lib/libcnn_cuda.so"};
    const char *given = getenv("CNN_CUDA_LIB");
    Dl_info here;
    if (given && *given) return snprintf(library_path, sizeof library_path, "%s", given), 0;
    if (!dladdr((const void *)&library, &here) || !here.dli_fname) return -1;
    /* Of a program found in PATH the name has no directory; the system knows it. */
    static char program[400];
    ssize_t length = strchr(here.dli_fname, '/') ? 0 : readlink("/proc/self/exe", program, 399);
    if (length > 0) here.dli_fname = program;
    const char *slash = strrchr(here.dli_fname, '/');
    int dir = slash ? (int)(slash - here.dli_fname) + 1 : 0;
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(library_path, sizeof library_path, "%.*s%s%s", dir, here.dli_fname,
                 dir ? "" : "./", places[i]);
        if (exists(library_path)) return 0;
    }
    library_path[0] = 0;
    return fail("no CUDA device: this build has the CPU only (no libcnn_cuda.so beside it); use "
                "device cpu");
}

static const k_device *library_open(void) {
    if (!library && library_find() == 0) library = library_of(library_path);
    return library;
}

/* -------------------------------------------------------------------------------------- the card
 */

const k_device *card(void) { return opened >= 0 ? library : 0; }
const char *card_name(void) { return name; }

static int refused(const char *op) {
    return op ? fail("%s: %s", op, library->why()) : fail("%s", library->why());
}

int card_open(const char *op, int index) {
    if (opened >= 0 && (index < 0 || index == opened)) return 0;
    const k_device *d = library_open();
    if (!d) return -1;
    if (index < 0) index = 0;
    if (d->open(index) < 0 || d->select(&table, &narrow_table, getenv("CNN_CUDA_KERNELS")) < 0 ||
        d->set_precision(precision) < 0)
        return refused(op);
    opened = index;
    snprintf(name, sizeof name, "cuda:%d", index);
    return 0;
}

const k_table *card_kernels(void) { return &table; }
const k_table *card_narrow_kernels(void) { return &narrow_table; }

int card_use_kernels(const char *variant) {
    plan_forget();
    return library->select(&table, &narrow_table, variant) < 0 ? refused("kernels") : 0;
}

int card_waits(void) {
    if (sync_each < 0) {
        const char *text = getenv("CNN_SYNC");
        sync_each = text && *text && strcmp(text, "0") != 0;
    }
    return sync_each;
}

int card_check(const char *op) { return library->check(card_waits()) < 0 ? refused(op) : 0; }

int card_asked(const char *op, int rc) { return rc < 0 ? refused(op) : 0; }

/* --------------------------------------------------------------------------------------- memory */

static int64_t most_in_use, room; /* since they were last asked for: see cnn_cuda_spare */

void *card_take(int64_t bytes) {
    void *p = library->take(bytes);
    k_memory m;
    if (!p && plan_make_room()) p = library->take(bytes);
    if (p && library->in_use() > most_in_use) most_in_use = library->in_use();
    if (p) return p;
    if (library->check(0) < 0) return refused(0), NULL;
    library->memory(&m);
    return fail_null(
        "out of memory on %s: %.1f MB more asked for, %.1f MB held by tensors, %.1f of "
        "%.1f MB free; a smaller batch or image needs less",
        name, (double)bytes / 1e6, (double)m.in_use / 1e6, (double)m.free / 1e6,
        (double)m.total / 1e6);
}

void *device_take(cnn_dev device, int64_t bytes) {
    return device == DEV_CUDA ? card_take(bytes) : memory_take(bytes);
}

void device_give(cnn_dev device, void *p, int64_t bytes) {
    if (device != DEV_CUDA)
        memory_give(p, bytes);
    else if (p)
        library->give(p);
}

int card_read(void *to, const void *from, int64_t bytes) {
    k_trouble t;
    if (library->download(to, from, bytes) < 0) return refused(0);
    return library->trouble(&t) < 0 ? refused(0) : t.found ? positions_fail(&t) : 0;
}

/* -------------------------------------------------------------------------------------- public */

int cnn_cuda_count(void) {
    error_clear();
    const k_device *d = library_open();
    if (!d) return 0;
    int n = d->count();
    return n < 0 ? refused(0), 0 : n;
}

int cnn_cuda_open(int index) {
    error_clear();
    return card_open(0, index);
}

const char *cnn_cuda_describe(void) {
    static char text[1024];
    k_card c = {.name = ""};
    error_clear();
    const k_device *d = library_open();
    if (!d) return 0;
    int rc = d->card(&c);
    if (rc < 0) refused(0);
    snprintf(text, sizeof text,
             "library %s\nname %s\ncapability %d.%d\nmultiprocessors %d\nmemory %lld\ndriver "
             "%d.%d\ntoolkit %d.%d\ncublas %d\ncudnn %d\nkernels %s\n",
             library_path, c.name, c.capability / 10, c.capability % 10, c.multiprocessors,
             (long long)c.memory, c.driver / 1000, c.driver % 1000 / 10, c.toolkit / 1000,
             c.toolkit % 1000 / 10, c.cublas, c.cudnn, opened >= 0 ? d->variant() : "");
    return text;
}

int cnn_cuda_memory(int64_t *in_use, int64_t *held, int64_t *peak, int64_t *free, int64_t *total) {
    k_memory m;
    error_clear();
    if (card_open("cuda.memory", -1) < 0) return -1;
    library->memory(&m);
    *in_use = m.in_use, *held = m.held, *peak = m.peak, *free = m.free, *total = m.total;
    return 0;
}

int64_t cnn_cuda_spare(int anew) {
    k_memory m;
    if (!card()) return INT64_MAX;
    if (anew || !room) {
        library->memory(&m);
        room = m.free + m.held;
        if (anew) most_in_use = m.in_use;
    }
    return room - most_in_use;
}

void cnn_cuda_reset_peak(void) {
    if (card()) library->reset_peak();
}

void cnn_cuda_empty_cache(void) {
    if (card()) library->trim();
}

int cnn_cuda_wait(void) {
    error_clear();
    if (!card()) return 0;
    return tape_flush() < 0 ? -1 : card_asked("wait", library->wait());
}

static const struct {
    const char *name;
    k_precision precision;
} precisions[] = {
    {"auto", K_TF32_CONV}, {"fp32", K_FP32}, {"tf32", K_TF32}, {"bf16", K_MIXED_BF16}};

static int precision_of(const char *name) {
    for (unsigned i = 0; i < sizeof precisions / sizeof *precisions; i++)
        if (!strcmp(name, precisions[i].name)) return (int)precisions[i].precision;
    return fail("precision: expected auto, fp32, tf32 or bf16, got %s", name);
}

int is_mixed(void) { return precision == K_MIXED_BF16; }

int cnn_set_precision(const char *wanted) {
    error_clear();
    int p = precision_of(wanted);
    if (p < 0 || tape_flush() < 0) return -1;
    plan_forget();
    if (card() && card_asked("precision", library->set_precision((k_precision)p)) < 0) return -1;
    precision = (k_precision)p;
    return 0;
}

int cnn_cuda_set_precision(const char *wanted) {
    error_clear();
    return card_open("precision", -1) < 0 ? -1 : cnn_set_precision(wanted);
}

int cnn_cuda_set_deterministic(int on) {
    error_clear();
    if (tape_flush() < 0 || card_open("deterministic", -1) < 0) return -1;
    plan_forget();
    return card_asked("deterministic", library->set_deterministic(on));
}

int cnn_cuda_set_autotune(int on) {
    error_clear();
    if (tape_flush() < 0 || card_open("autotune", -1) < 0) return -1;
    plan_forget();
    return card_asked("autotune", library->set_autotune(on));
}

int cnn_cuda_plan(const int64_t *conv, int direction, int joined, const char *precision,
                  const char *on, char *text, int n) {
    k_conv s;
    error_clear();
    int p = precision_of(precision);
    const k_device *d = p < 0 ? 0 : library_open();
    if (!d) return -1;
    memcpy(&s, conv, sizeof s);
    if (d->plan_text(&s, (k_direction)direction, joined, (k_precision)p, on, text, (size_t)n) == 0)
        return 0;
    return fail("%s", text);
}

const char *cnn_cuda_cudnn(void) {
    error_clear();
    const k_device *d = library_open();
    return d ? d->cudnn_why() : 0;
}
