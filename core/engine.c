/* engine.c - what the engine runs on: kernels, threads, the CPU.
 *
 * The table of kernels is filled once, with the best variant that this CPU runs; CNN_KERNELS in the
 * environment, or cnn_use_kernels, asks for a plainer one.
 *
 * Surprising: changing the variant or the number of threads is allowed at any time between ops; the
 * number of threads never changes a result, the variant changes the last bits. */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *cnn_version(void) { return "0.1.0"; }

static k_table wide_table, narrow_table;

/* The CPU's. */
static void tables_ready(void) {
    if (wide_table.copy) return;
    const char *wanted = getenv("CNN_KERNELS"); /* an unknown name is the best variant */
    if (!wanted || k_select(&wide_table, &narrow_table, wanted) < 0)
        k_select(&wide_table, &narrow_table, 0);
}

const k_table *kernels_of(cnn_dev device) {
    if (device == DEV_CUDA) return card_kernels();
    if (device != DEV_CPU) return 0;
    tables_ready();
    return &wide_table;
}

const k_table *narrow_kernels_of(cnn_dev device) {
    if (device == DEV_CUDA) return card_narrow_kernels();
    if (device != DEV_CPU) return 0;
    tables_ready();
    return &narrow_table;
}

int cnn_use_kernels(const char *variant) {
    error_clear();
    if (tape_flush() < 0) return -1;
    int of_card = variant && (!strcmp(variant, "cuda") || !strcmp(variant, "cublas") ||
                              !strcmp(variant, "cudnn"));
    if (of_card && card_open("kernels", -1) < 0) return -1;
    if (card() && (of_card || !variant) && card_use_kernels(variant) < 0) return -1;
    if (of_card || k_select(&wide_table, &narrow_table, variant) == 0) return 0;
    return fail("kernels: expected generic, blas, avx2, avx512 or avx512bf16 and a CPU that runs "
                "it, or cuda, cublas or cudnn, got %s",
                variant);
}

const char *cnn_kernels(void) {
    tables_ready();
    return k_variant();
}

const char *cnn_conv_method(const int64_t *conv, int direction) {
    k_conv s;
    memcpy(&s, conv, sizeof s);
    return kernels_of(DEV_CPU)->conv_method(&s, (k_direction)direction);
}

static char forced[32];

void cnn_force_conv(const char *method) {
    snprintf(forced, sizeof forced, "%s", method ? method : "");
    k_force_conv(method ? forced : 0);
}

int cnn_set_threads(int n) {
    error_clear();
    if (n < 0 || n > 1024) return fail("threads: expected 0 to 1024, got %d", n);
    k_set_threads(n);
    return 0;
}

int cnn_threads(void) { return k_threads(); }

const char *cnn_cpu(void) {
    static char text[192];
    char line[256], name[96] = "unknown CPU";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %95[^\n]", name) == 1) break;
    if (f) fclose(f);
#if defined(__x86_64__)
    __builtin_cpu_init();
    snprintf(text, sizeof text, "%s%s%s%s", name, __builtin_cpu_supports("avx2") ? ", AVX2" : "",
             __builtin_cpu_supports("fma") ? ", FMA" : "",
             __builtin_cpu_supports("avx512f") ? ", AVX-512" : "");
#else
    snprintf(text, sizeof text, "%s", name);
#endif
    return text;
}
