/* table.c - fills the kernel table: generic first, then each better variant that this CPU runs.
 *
 * `ls kernels/` is the matrix family x variant; the rows below name what each file provides. A file
 * overlays the slots that it has and leaves the others as they are. */
#include "kernels.h"

#include <string.h>

typedef void overlay(k_table *t);

/* One line a file: void k_FAMILY_VARIANT(k_table *t). */
overlay k_conv_generic, k_gemm_generic, k_images_generic, k_loss_generic, k_norm_generic,
    k_optim_generic, k_pointwise_generic, k_pool_generic, k_random_generic, k_reduce_generic,
    k_storage_generic;
overlay k_gemm_blas;
overlay k_conv_avx2, k_gemm_avx2, k_loss_avx2, k_norm_avx2, k_optim_avx2, k_pointwise_avx2,
    k_pool_avx2, k_random_avx2, k_reduce_avx2;
overlay k_conv_avx512, k_gemm_avx512, k_loss_avx512, k_norm_avx512, k_optim_avx512,
    k_pointwise_avx512, k_pool_avx512, k_random_avx512, k_reduce_avx512;

enum { MAX_FAMILIES = 12 };

static const struct {
    const char *name;
    overlay *family[MAX_FAMILIES];
} variants[] = {
    {"generic",
     {k_conv_generic, k_gemm_generic, k_images_generic, k_loss_generic, k_norm_generic,
      k_optim_generic, k_pointwise_generic, k_pool_generic, k_random_generic, k_reduce_generic,
      k_storage_generic}},
    {"blas", {k_gemm_blas}},
#if defined(__x86_64__) /* elsewhere their files are not compiled */
    {"avx2",
     {k_conv_avx2, k_gemm_avx2, k_loss_avx2, k_norm_avx2, k_optim_avx2, k_pointwise_avx2,
      k_pool_avx2, k_random_avx2, k_reduce_avx2}},
    {"avx512",
     {k_conv_avx512, k_gemm_avx512, k_loss_avx512, k_norm_avx512, k_optim_avx512,
      k_pointwise_avx512, k_pool_avx512, k_random_avx512, k_reduce_avx512}},
#endif
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static int runs_here(const char *variant) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(variant, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("fma");
    if (!strcmp(variant, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    if (!strncmp(variant, "avx", 3)) return 0;
#endif
    return 1;
}

static int in_force;

int k_select(k_table *t, const char *variant) {
    int last = -1;
    for (int i = 0; i < VARIANTS; i++) {
        if (variant && strcmp(variants[i].name, variant)) continue;
        if (runs_here(variants[i].name)) last = i;
        if (variant) break;
    }
    if (last < 0) return -1;
    memset(t, 0, sizeof *t);
    for (int i = 0; i <= last; i++) {
        if (!runs_here(variants[i].name)) continue;
        for (int f = 0; f < MAX_FAMILIES && variants[i].family[f]; f++) variants[i].family[f](t);
    }
    in_force = last;
    return 0;
}

const char *k_variant(void) { return variants[in_force].name; }
