/* device_cuda.cu - the card as device.h describes it: its stream, copies, graphs and errors.
 *
 * Contract: device.h. Everything goes to one stream, so what is asked for happens in that order;
 * the host waits in download, wait, trouble and check(1) alone. Bytes that go up are first copied
 * to a piece of page-locked memory, so that the caller may change them at once.
 *
 * Surprising: a fault of a kernel shows at some later call, and the card's context is then lost for
 * good: `broken` keeps the reason, and nothing more is asked of the driver. */
#include "launch.h"
#include "memory_cuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --------------------------------------------------------------------------------------- errors */

static char reason[256]; /* of the last -1 */
static char failed[256]; /* what a library call said, until check answers it */
static char fault[256];  /* what broke the card */
static int broken;

static const char *why(void) { return broken ? fault : reason; }

static int refuse(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(reason, sizeof reason, format, list);
    va_end(list);
    return -1;
}

void k_failed(const char *format, ...) {
    va_list list;
    if (failed[0]) return; /* the first one says most */
    va_start(list, format);
    vsnprintf(failed, sizeof failed, format, list);
    va_end(list);
}

/* 0, or -1 with the reason. From a fault on the card, 700 to 799, there is no way back; from what a
 * capture refuses, 900 on, there is. */
static int done(cudaError_t e, const char *what) {
    if (broken) return -1;
    if (e == cudaSuccess) return 0;
    cudaGetLastError();
    cudaError_t still = cudaPeekAtLastError(); /* an error that stays is a lost context */
    int lost = still != cudaSuccess || (e >= cudaErrorIllegalAddress && (int)e < 800);
    refuse("CUDA: %s: %s%s", what, cudaGetErrorString(e),
           lost ? "; the card cannot be used by this process any more" : "");
    memcpy(fault, reason, sizeof fault);
    broken = lost;
    return -1;
}

/* ------------------------------------------------------------------------------------- the card */

static int opened = -1; /* its index */
static cudaStream_t stream;
static k_trouble *trouble_now; /* on the card */
static const k_trouble no_trouble = {0, 0, 0, 0};

/* Bytes on their way up. Filled from the start; when it is full the stream is waited for. */
static char *staging;
static int64_t staged;
static const int64_t STAGING = 4 << 20;

void *k_stream(void) { return stream; }

static int version_minor(int v) { return v % 1000 / 10; }

static int cards(void) {
    int n = 0, driver = 0, runtime = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0) return n;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (e == cudaErrorInsufficientDriver && !driver)
        return refuse("no NVIDIA driver is loaded (libcuda.so.1); install it");
    if (e == cudaErrorInsufficientDriver)
        return refuse(
            "the NVIDIA driver serves CUDA up to %d.%d, this build needs %d.%d; install a "
            "newer driver, or build with that CUDA",
            driver / 1000, version_minor(driver), runtime / 1000, version_minor(runtime));
    if (e == cudaErrorStubLibrary)
        return refuse("the toolkit's stub stands in for the driver (libcuda.so.1); install the "
                      "NVIDIA driver");
    if (e == cudaErrorNoDevice || e == cudaSuccess)
        return refuse("no NVIDIA card is seen by the driver (see nvidia-smi and "
                      "CUDA_VISIBLE_DEVICES)");
    return refuse("CUDA: %s", cudaGetErrorString(e));
}

static int upload(void *to, const void *from, int64_t bytes);

static int open_card(int index) {
    int n = cards();
    if (n < 0) return -1;
    if (index < 0 || index >= n)
        return n == 1 ? refuse("no cuda:%d: this machine has cuda:0 alone", index)
                      : refuse("no cuda:%d: this machine has cuda:0 to cuda:%d", index, n - 1);
    if (opened >= 0 && opened != index)
        return refuse("cuda:%d is in use by this process, which can use one card; start another "
                      "process for cuda:%d",
                      opened, index);
    if (opened == index) return broken ? -1 : 0;
    char name[16];
    snprintf(name, sizeof name, "cuda:%d", index);
    if (done(cudaSetDevice(index), name) ||
        done(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), name) ||
        done(cudaMallocHost((void **)&staging, (size_t)STAGING), name))
        return -1;
    opened = index;
    trouble_now = (k_trouble *)k_pool_take(sizeof *trouble_now);
    if (trouble_now && upload(trouble_now, &no_trouble, sizeof no_trouble) == 0) return 0;
    opened = -1;
    return trouble_now ? -1 : refuse("%s: no memory is left on the card", name);
}

static int card(k_card *c) {
    cudaDeviceProp p;
    memset(c, 0, sizeof *c);
    cudaDriverGetVersion(&c->driver);
    cudaRuntimeGetVersion(&c->toolkit);
    cudaGetLastError();
#ifndef CNN_NO_CUBLAS
    c->cublas = k_cublas_version();
#endif
#ifndef CNN_NO_CUDNN
    c->cudnn = k_cudnn_version();
#endif
    if (cards() < 0) return -1;
    if (done(cudaGetDeviceProperties(&p, opened < 0 ? 0 : opened), "properties")) return -1;
    snprintf(c->name, sizeof c->name, "%.127s", p.name);
    c->capability = 10 * p.major + p.minor;
    c->multiprocessors = p.multiProcessorCount;
    c->memory = (int64_t)p.totalGlobalMem;
    return 0;
}

/* --------------------------------------------------------------------------------------- memory */

void *k_card_malloc(int64_t bytes) {
    void *p = 0;
    if (broken) return 0;
    if (cudaMalloc(&p, (size_t)bytes) == cudaSuccess) return p;
    cudaGetLastError();
    return 0;
}

void k_card_free(void *p) {
    if (!broken) cudaFree(p);
}

static void *take(int64_t bytes) {
    void *p = broken ? 0 : k_pool_take(bytes);
    if (!p && !broken) refuse("out of memory");
    return p;
}

static void memory(k_memory *m) {
    size_t left = 0, total = 0;
    k_pool_memory(m);
    if (!broken && opened >= 0) cudaMemGetInfo(&left, &total);
    m->free = (int64_t)left;
    m->total = (int64_t)total;
}

static int64_t in_use(void) {
    k_memory m;
    k_pool_memory(&m);
    return m.in_use;
}

static int upload(void *to, const void *from, int64_t bytes) {
    for (int64_t n; bytes > 0; bytes -= n) {
        if (staged == STAGING && done(cudaStreamSynchronize(stream), "upload")) return -1;
        if (staged == STAGING) staged = 0;
        n = bytes < STAGING - staged ? bytes : STAGING - staged;
        memcpy(staging + staged, from, (size_t)n);
        if (done(cudaMemcpyAsync(to, staging + staged, (size_t)n, cudaMemcpyHostToDevice, stream),
                 "upload"))
            return -1;
        staged += n;
        to = (char *)to + n;
        from = (const char *)from + n;
    }
    return broken ? -1 : 0;
}

static int wait(void) { return done(cudaStreamSynchronize(stream), "wait"); }

static int download(void *to, const void *from, int64_t bytes) {
    if (bytes > 0 &&
        done(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToHost, stream), "download"))
        return -1;
    return wait();
}

static int copy(void *to, const void *from, int64_t bytes) {
    if (bytes <= 0) return broken ? -1 : 0;
    return done(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, stream), "copy");
}

static int check(int wait_first) {
    if (broken) return -1;
    if (failed[0]) {
        refuse("%s", failed);
        failed[0] = 0;
        return -1;
    }
    if (done(cudaPeekAtLastError(), "launch")) return -1;
    return wait_first ? wait() : 0;
}

static k_trouble *trouble_at(void) { return trouble_now; }

static int trouble(k_trouble *t) {
    if (download(t, trouble_now, sizeof *t)) return -1;
    return t->found ? upload(trouble_now, &no_trouble, sizeof no_trouble) : 0;
}

/* --------------------------------------------------------------------------------------- graphs */

struct k_graph {
    cudaGraphExec_t exec;
};

static int capturing, graphs;
static const void *live_now;

const void *k_live(void) { return live_now; }
static void live(const void *p) { live_now = p; }

/* What the graph itself takes of the card is kept free for it, since its list may take the rest. */
static const int64_t SPARE = 8 << 20;
static void *spare;

static void spare_give(void) {
    if (spare) k_card_free(spare);
    spare = 0;
}

/* Relaxed: the pool may ask the card for more memory meanwhile. */
static int capture_begin(void) {
    k_pool_trim();
    if (check(0)) return -1;
    if (!(spare = k_card_malloc(SPARE))) return refuse("CUDA: capture: out of memory");
    if (done(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capture")) {
        spare_give();
        return -1;
    }
    capturing = 1;
    k_pool_capture(1);
    return 0;
}

static k_graph *capture_end(int keep) {
    cudaGraph_t recorded = 0;
    live_now = 0;
    capturing = 0;
    k_pool_capture(0);
    int bad = done(cudaStreamEndCapture(stream, &recorded), "capture") || check(0);
    spare_give();
    k_graph *g = !bad && keep ? (k_graph *)calloc(1, sizeof *g) : 0;
    if (g && done(cudaGraphInstantiate(&g->exec, recorded, 0), "graph")) {
        free(g);
        g = 0;
    }
    if (recorded) cudaGraphDestroy(recorded);
    if (g) graphs++;
    if (!graphs) k_pool_graphs_gone(); /* none came of it, and there was none */
    return g;
}

static int graph_run(k_graph *g) { return done(cudaGraphLaunch(g->exec, stream), "graph"); }

static void graph_free(k_graph *g) {
    if (!broken) cudaGraphExecDestroy(g->exec);
    free(g);
    if (--graphs == 0) k_pool_graphs_gone();
}

/* ------------------------------------------------------------------------------------- the table
 */

static k_precision precision = K_TF32_CONV;
static int deterministic, autotune;
static const char *in_force = "cuda";

k_precision k_precision_now(void) { return precision; }
int k_deterministic(void) { return deterministic; }
int k_autotune(void) { return autotune && !capturing; }

static int set_precision(k_precision p) {
    precision = p;
    return 0;
}
static int set_deterministic(int on) {
    deterministic = on;
    return 0;
}
static int set_autotune(int on) {
    autotune = on;
    return 0;
}
static const char *variant(void) { return in_force; }

static int select(k_table *t, k_table *narrow, const char *wanted) {
    memset(t, 0, sizeof *t);
    k_pointwise_cuda(t);
    k_reduce_cuda(t);
    k_norm_cuda(t);
    k_pool_cuda(t);
    k_loss_cuda(t);
    k_random_cuda(t);
    k_storage_cuda(t);
    k_images_cuda(t);
    k_optim_cuda(t);
    k_conv_cuda(t);
    k_gemm_cuda(t);
    in_force = "cuda";
    *narrow = *t;
    k_pointwise_narrow_cuda(narrow);
    k_reduce_narrow_cuda(narrow);
    k_norm_narrow_cuda(narrow);
    k_pool_narrow_cuda(narrow);
    k_random_narrow_cuda(narrow);
    k_images_narrow_cuda(narrow);
    k_product_narrow_cuda(narrow);
    if (wanted && !strcmp(wanted, "cuda")) return 0;
#ifndef CNN_NO_CUBLAS
    if (k_gemm_cublas(t, narrow) == 0) in_force = "cublas";
#endif
#ifndef CNN_NO_CUDNN
    if ((!wanted || strcmp(wanted, "cublas")) && k_conv_cudnn(t, narrow) == 0) in_force = "cudnn";
#endif
    if (!wanted || !strcmp(wanted, in_force)) return 0;
    return refuse(
        "kernels: expected cuda, cublas or cudnn and a machine that has that library, got "
        "%s",
        wanted);
}

#ifdef CNN_NO_CUDNN /* its headers were not found when this was built */
static const char *cudnn_why(void) { return "this build has no cuDNN: its headers were not found"; }

static int plan_text(const k_conv *, k_direction, int, k_precision, const char *, char *text,
                     size_t n) {
    snprintf(text, n, "%s", cudnn_why());
    return -1;
}
#else
static const char *cudnn_why(void) { return k_cudnn_why(); }

static int plan_text(const k_conv *s, k_direction direction, int joined, k_precision p,
                     const char *on, char *text, size_t n) {
    return k_cudnn_plan_text(s, direction, joined, p, on, text, n);
}
#endif

static const k_device device = {
    .version = K_DEVICE_VERSION,
    .table_bytes = sizeof(k_table),
    .why = why,
    .count = cards,
    .open = open_card,
    .card = card,
    .select = select,
    .variant = variant,
    .set_precision = set_precision,
    .set_deterministic = set_deterministic,
    .set_autotune = set_autotune,
    .take = take,
    .give = k_pool_give,
    .trim = k_pool_trim,
    .memory = memory,
    .in_use = in_use,
    .reset_peak = k_pool_reset_peak,
    .upload = upload,
    .download = download,
    .copy = copy,
    .wait = wait,
    .check = check,
    .trouble = trouble,
    .trouble_at = trouble_at,
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .live = live,
    .graph_run = graph_run,
    .graph_free = graph_free,
    .plan_text = plan_text,
    .cudnn_why = cudnn_why,
};

extern "C" const k_device *cnn_cuda_device(void) { return &device; }
