/* gemm_cublas.c - the matrix product by cuBLASLt, which is opened when the card is, and not linked.
 *
 * Row-major C = A B is, read by columns as cuBLASLt does, C^T = B^T A^T: its first operand is our
 * B, its rows are our columns, and the bias that it adds to a column is the one that we add to a
 * row. Which of its kernels serves a shape is asked once and kept. fp32 is fp32; tf32 is used where
 * that is the precision; operands of bf16 are summed in fp32.
 *
 * A bias's gradient comes with that of the weights, dw = dy^T x: our A is cuBLASLt's B, so its sum
 * over k is what BGRADB answers, a float32 as C is. It has that for a B that it is to transpose,
 * which is an A stored k x m.
 *
 * What the library takes no kernel for, and what it is known to get wrong, is left to the slot that
 * was there before: k = 0, a bias that is not 16-byte aligned (its heuristics look at the alignment
 * of A, B and C alone).
 *
 * Surprising: two products of one shape may run different kernels, since the alignment of their
 * pointers is part of the question. The same pointers always get the same one. */
#include "card.h"
#include "library.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <string.h>

static k_table own[2]; /* as they were before: for float32, for bf16 */

/* ---------------------------------------------------------------------------------- the library */

#define FUNCTIONS(X)                                                                               \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtCreate)                                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmul)

#define POINTER(name) __typeof__(name) *name;
static struct { FUNCTIONS(POINTER) } lt;
static cublasLtHandle_t handle;

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#define FIND(name) found &= (*(void **)&lt.name = dlsym(library, #name)) != NULL;

/* Is the library of the header's major version there, with all that is used of it? */
static int opened(void) {
    static int found = -1;
    if (found >= 0) return found;
    void *library = k_library("libcublasLt.so." TEXT(CUBLAS_VER_MAJOR), "cublas", NULL);
    found = library != NULL;
    if (found) { FUNCTIONS(FIND) }
    return found;
}

int k_cublas_version(void) {
    if (!opened()) return 0;
    int v = (int)lt.cublasLtGetVersion(); /* 10000 * major + 100 * minor + patch */
    return v / 10000 * 1000 + v / 100 % 100 * 10;
}

/* --------------------------------------------------------------------------------- its kernels */

enum { DETERMINISTIC = 1, RELU = 2, BIAS_GRADIENT = 4 }; /* settings */

/* All that its choice depends on. No padding: keys are compared as bytes. */
typedef struct {
    k_gemm g;
    int32_t precision, settings, a_align, b_align, c_align, bias_align; /* 0: no bias */
} question;

typedef struct {
    question key;
    int known; /* is there a kernel? */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c; /* as ours: a is cuBLASLt's B */
    cublasLtMatmulAlgo_t kernel;
    size_t workspace;
} answer;

enum { ANSWERS = 512, LEAST_WORKSPACE = 1 << 20, MOST_WORKSPACE = 32 << 20 };
static answer answers[ANSWERS];

/* Partial sums of up to 16 pieces of the inner dimension, within limits. */
static int64_t workspace_of(const k_gemm *g) {
    int64_t most = MOST_WORKSPACE / 64;
    if (g->m > most / g->n) return MOST_WORKSPACE;
    int64_t bytes = 64 * g->m * g->n;
    return bytes < LEAST_WORKSPACE ? LEAST_WORKSPACE : bytes;
}

static int32_t alignment_of(const void *p) {
    uintptr_t at = (uintptr_t)p | 256;
    return (int32_t)(at & -at);
}

static void forget(answer *q) {
    if (q->product) lt.cublasLtMatmulDescDestroy(q->product);
    if (q->a) lt.cublasLtMatrixLayoutDestroy(q->a);
    if (q->b) lt.cublasLtMatrixLayoutDestroy(q->b);
    if (q->c) lt.cublasLtMatrixLayoutDestroy(q->c);
    memset(q, 0, sizeof *q);
}

static int describe(answer *q, const float *bias) {
    const k_gemm *g = &q->key.g;
    cudaDataType_t type = q->key.precision == K_MIXED_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasComputeType_t compute =
        q->key.precision == K_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasOperation_t ta = g->ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                      tb = g->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    static const cublasLtEpilogue_t epilogues[2][2] = {
        {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS},
        {CUBLASLT_EPILOGUE_RELU, CUBLASLT_EPILOGUE_RELU_BIAS}};
    cublasLtEpilogue_t epilogue = q->key.settings & BIAS_GRADIENT
                                      ? CUBLASLT_EPILOGUE_BGRADB
                                      : epilogues[(q->key.settings & RELU) != 0][bias != NULL];
    uint64_t m = (uint64_t)g->m, n = (uint64_t)g->n, k = (uint64_t)g->k;
#define SET(attribute, value)                                                                      \
    lt.cublasLtMatmulDescSetAttribute(q->product, CUBLASLT_MATMUL_DESC_##attribute, &value,        \
                                      sizeof value)
    return lt.cublasLtMatmulDescCreate(&q->product, compute, CUDA_R_32F) || SET(TRANSA, tb) ||
           SET(TRANSB, ta) || SET(EPILOGUE, epilogue) || (bias && SET(BIAS_POINTER, bias)) ||
           lt.cublasLtMatrixLayoutCreate(&q->b, type, g->tb ? k : n, g->tb ? n : k, g->ldb) ||
           lt.cublasLtMatrixLayoutCreate(&q->a, type, g->ta ? m : k, g->ta ? k : m, g->lda) ||
           lt.cublasLtMatrixLayoutCreate(&q->c, CUDA_R_32F, n, m, g->ldc);
}

static void ask(answer *q) {
    cublasLtMatmulPreference_t wish;
    cublasLtMatmulHeuristicResult_t best = {.state = CUBLAS_STATUS_NOT_SUPPORTED};
    uint64_t workspace = (uint64_t)workspace_of(&q->key.g);
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK, a = (uint32_t)q->key.a_align,
             b = (uint32_t)q->key.b_align, c = (uint32_t)q->key.c_align;
    int count = 0;
    if (q->key.settings & DETERMINISTIC) schemes &= ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_INPLACE;
    if (lt.cublasLtMatmulPreferenceCreate(&wish)) return;
#define WISH(attribute, value)                                                                     \
    lt.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_##attribute, &value,        \
                                            sizeof value)
    int bad = WISH(MAX_WORKSPACE_BYTES, workspace) || WISH(REDUCTION_SCHEME_MASK, schemes) ||
              WISH(MIN_ALIGNMENT_A_BYTES, b) || WISH(MIN_ALIGNMENT_B_BYTES, a) ||
              WISH(MIN_ALIGNMENT_C_BYTES, c) || WISH(MIN_ALIGNMENT_D_BYTES, c) ||
              lt.cublasLtMatmulAlgoGetHeuristic(handle, q->product, q->b, q->a, q->c, q->c, wish, 1,
                                                &best, &count);
    lt.cublasLtMatmulPreferenceDestroy(wish);
    q->known = !bad && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    q->kernel = best.algo;
    q->workspace = best.workspaceSize;
}

/* The answer to a question: one asked before, or a new one in the place of an older. */
static answer *answer_to(const question *key, const float *bias) {
    const unsigned char *byte = (const unsigned char *)key;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    answer *q = &answers[hash % ANSWERS];
    if (q->product && !memcmp(&q->key, key, sizeof *key)) return q;
    forget(q);
    q->key = *key;
    if (describe(q, bias) == 0) ask(q);
    return q;
}

/* --------------------------------------------------------------------------------- the product */

static int is_empty(const k_gemm *g) { return !g->m || !g->n || !g->k; }

/* Was it done? `settings`: what goes with it. */
static int multiply(int narrow, const k_gemm *g, const float *a, const float *b, const float *bias,
                    int settings, float *c, void *scratch) {
    static const float one = 1, zero = 0;
    if (is_empty(g) || (uintptr_t)bias % 16) return 0;
    k_precision precision = narrow ? K_MIXED_BF16 : k_precision_now() == K_TF32 ? K_TF32 : K_FP32;
    question key = {.g = *g,
                    .precision = precision,
                    .settings = settings | (k_deterministic() ? DETERMINISTIC : 0),
                    .bias_align = bias ? alignment_of(bias) : 0,
                    .a_align = alignment_of(a),
                    .b_align = alignment_of(b),
                    .c_align = alignment_of(c)};
    answer *q = answer_to(&key, bias);
    if (!q->known) return 0;
    int bad = bias ? SET(BIAS_POINTER, bias) : CUBLAS_STATUS_SUCCESS;
    if (!bad)
        bad = lt.cublasLtMatmul(handle, q->product, &one, b, q->b, a, q->a, &zero, c, q->c, c, q->c,
                                &q->kernel, scratch, q->workspace, k_stream());
    if (bad)
        k_failed("cuBLAS: status %d for a product of %lldx%lld by %lldx%lld", bad, (long long)g->m,
                 (long long)g->k, (long long)g->k, (long long)g->n);
    return 1;
}

/* The slots of the table for float32 (0) and for bf16 (1). */
#define SLOTS(narrow)                                                                              \
    static void gemm_##narrow(const k_gemm *g, const float *a, const float *b, const float *bias,  \
                              float *c, void *scratch) {                                           \
        if (!multiply(narrow, g, a, b, bias, 0, c, scratch))                                       \
            own[narrow].gemm(g, a, b, bias, c, scratch);                                           \
    }                                                                                              \
    static void gemm_relu_##narrow(const k_gemm *g, const float *a, const float *b,                \
                                   const float *bias, float *c, void *scratch) {                   \
        if (!multiply(narrow, g, a, b, bias, RELU, c, scratch))                                    \
            own[narrow].gemm_relu(g, a, b, bias, c, scratch);                                      \
    }                                                                                              \
    static int gemm_bias_grad_##narrow(const k_gemm *g, const float *a, const float *b,            \
                                       float *bias, float *c, void *scratch) {                     \
        return g->ta && multiply(narrow, g, a, b, bias, BIAS_GRADIENT, c, scratch);                \
    }                                                                                              \
    static int64_t gemm_scratch_##narrow(const k_gemm *g) {                                        \
        int64_t otherwise = own[narrow].gemm_scratch(g),                                           \
                bytes = is_empty(g) ? 0 : workspace_of(g);                                         \
        return bytes > otherwise ? bytes : otherwise;                                              \
    }                                                                                              \
    static void set_##narrow(k_table *t) {                                                         \
        own[narrow] = *t;                                                                          \
        t->gemm = gemm_##narrow;                                                                   \
        t->gemm_relu = gemm_relu_##narrow;                                                         \
        t->gemm_bias_grad = gemm_bias_grad_##narrow;                                               \
        t->gemm_scratch = gemm_scratch_##narrow;                                                   \
    }
SLOTS(0)
SLOTS(1)

int k_gemm_cublas(k_table *t, k_table *narrow) {
    if (!opened() || (!handle && lt.cublasLtCreate(&handle))) return -1;
    set_0(t);
    set_1(narrow);
    return 0;
}
