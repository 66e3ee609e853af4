/* gemm_blas.c - the matrix product by OpenBLAS, opened at the first product and not before: linking
 * it would add its start-up to every run of the program.
 *
 * C is cut into blocks by its shape and each is one single-threaded sgemm in k_parallel, so the
 * number of threads does not change a bit. Where the library cannot be opened, or a size does not
 * fit its int, the slot that was there before does the work.
 *
 * Surprising: OpenBLAS 0.3.21 takes AMD processors with AVX-512 for Haswells and runs at half their
 * speed. It reads the core type when it is loaded, so that is told to it here, unless the user
 * has; its environment variables are gone again when dlopen returns. */
#include "kernels.h"

#include <cblas.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

enum { BLOCK_ROWS = 512, BLOCK_COLS = 512, LEAST = 128, TASKS = 8 };

static __typeof__(cblas_sgemm) *sgemm; /* NULL: not to be had */
static void (*fallback)(const k_gemm *g, const float *a, const float *b, const float *bias,
                        float *c, void *scratch);
static int64_t (*fallback_scratch)(const k_gemm *g);

/* ---------------------------------------------------------------------------------- the library */

static void *open_with(const char *name, const char *value) {
    int set = value && !getenv(name);
    if (set) setenv(name, value, 0);
    const char *threads = "OPENBLAS_NUM_THREADS"; /* 1: it starts none of its own */
    int alone = !getenv(threads);
    if (alone) setenv(threads, "1", 0);
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (alone) unsetenv(threads);
    if (set) unsetenv(name);
    return library;
}

static const char *core_type(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return "SKYLAKEX";
#endif
    return NULL;
}

static void open_library(void) {
    void *library = open_with("OPENBLAS_CORETYPE", core_type());
    if (!library) return;
    void (*set_threads)(int);
    *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
    if (set_threads) set_threads(1);
    *(void **)&sgemm = dlsym(library, "cblas_sgemm");
}

/* ---------------------------------------------------------------------------------- the product */

typedef struct {
    const k_gemm *g;
    const float *a, *b, *bias;
    float *c;
    int64_t row_cuts, col_cuts;
} product;

/* C starts as bias, or 0: sgemm knows no bias, and may not touch C at all where k is 0. */
static void start_block(const product *p, float *c, const float *bias, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) c[i * p->g->ldc + j] = bias ? bias[j] : 0;
}

static void product_blocks(void *ctx, int64_t begin, int64_t end) {
    const product *p = ctx;
    const k_gemm *g = p->g;
    for (int64_t i = begin; i < end; i++) {
        int64_t r = i / p->col_cuts, s = i % p->col_cuts;
        int64_t row = g->m * r / p->row_cuts, rows = g->m * (r + 1) / p->row_cuts - row;
        int64_t col = g->n * s / p->col_cuts, cols = g->n * (s + 1) / p->col_cuts - col;
        const float *a = p->a + row * (g->ta ? 1 : g->lda);
        const float *b = p->b + col * (g->tb ? g->ldb : 1);
        float *c = p->c + row * g->ldc + col;
        int started = p->bias || g->k == 0;
        if (started) start_block(p, c, p->bias ? p->bias + col : NULL, rows, cols);
        if (g->k == 0) continue;
        sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
              (int)rows, (int)cols, (int)g->k, 1, a, (int)g->lda, b, (int)g->ldb, started ? 1 : 0,
              c, (int)g->ldc);
    }
}

static int fits_int(const k_gemm *g) {
    return g->m <= INT_MAX && g->n <= INT_MAX && g->k <= INT_MAX && g->lda <= INT_MAX &&
           g->ldb <= INT_MAX && g->ldc <= INT_MAX;
}

static void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
                 void *scratch) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    if (!sgemm || !fits_int(g)) {
        fallback(g, a, b, bias, c, scratch);
        return;
    }
    if (!g->m || !g->n) return;
    product p = {g,
                 a,
                 b,
                 bias,
                 c,
                 (g->m + BLOCK_ROWS - 1) / BLOCK_ROWS,
                 (g->n + BLOCK_COLS - 1) / BLOCK_COLS};
    while (p.row_cuts * p.col_cuts < TASKS) {
        int64_t rows = g->m / p.row_cuts, cols = g->n / p.col_cuts;
        if (rows < LEAST && cols < LEAST) break;
        *(rows > cols ? &p.row_cuts : &p.col_cuts) *= 2;
    }
    k_parallel(p.row_cuts * p.col_cuts, 1, product_blocks, &p);
}

static int64_t gemm_scratch(const k_gemm *g) { return fallback_scratch(g); }

void k_gemm_blas(k_table *t) {
    fallback = t->gemm, fallback_scratch = t->gemm_scratch;
    t->gemm = gemm;
    t->gemm_scratch = gemm_scratch;
}
