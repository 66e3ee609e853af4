/* table.c - fills the kernel tables: generic first, then each better variant that this CPU runs.
 *
 * `ls kernels/` is the matrix family x variant; the rows below name what each file provides. A file
 * overlays the slots that it has and leaves the others as they are. The narrow table is the wide
 * one, overlaid with what takes and gives bf16. */
#include "kernels.h"

#include <string.h>

typedef void overlay(k_table *t);

/* One line a file: void k_FAMILY_VARIANT(k_table *t). */
overlay k_conv_generic, k_gemm_generic, k_images_generic, k_loss_generic, k_norm_generic,
    k_optim_generic, k_peak_generic, k_pointwise_generic, k_pool_generic, k_random_generic,
    k_reduce_generic, k_storage_generic;
overlay k_gemm_blas;
overlay k_conv_avx2, k_gemm_avx2, k_loss_avx2, k_norm_avx2, k_optim_avx2, k_peak_avx2,
    k_pointwise_avx2, k_pool_avx2, k_random_avx2, k_reduce_avx2;
overlay k_conv_avx512, k_gemm_avx512, k_loss_avx512, k_norm_avx512, k_optim_avx512, k_peak_avx512,
    k_pointwise_avx512, k_pool_avx512, k_random_avx512, k_reduce_avx512;

overlay k_conv_narrow_generic, k_gemm_narrow_generic, k_norm_narrow_generic,
    k_pointwise_narrow_generic, k_pool_narrow_generic, k_random_narrow_generic,
    k_reduce_narrow_generic;
overlay k_norm_narrow_avx2, k_pointwise_narrow_avx2, k_pool_narrow_avx2, k_random_narrow_avx2,
    k_reduce_narrow_avx2;
overlay k_norm_narrow_avx512, k_pointwise_narrow_avx512, k_pool_narrow_avx512,
    k_random_narrow_avx512, k_reduce_narrow_avx512;

enum { MAX_FAMILIES = 12 };

static const struct {
    const char *name;
    overlay *wide[MAX_FAMILIES], *narrow[MAX_FAMILIES];
} variants[] = {
    {"generic",
     {k_conv_generic, k_gemm_generic, k_images_generic, k_loss_generic, k_norm_generic,
      k_optim_generic, k_peak_generic, k_pointwise_generic, k_pool_generic, k_random_generic,
      k_reduce_generic, k_storage_generic},
     {k_conv_narrow_generic, k_gemm_narrow_generic, k_norm_narrow_generic,
      k_pointwise_narrow_generic, k_pool_narrow_generic, k_random_narrow_generic,
      k_reduce_narrow_generic}},
    {"blas", {k_gemm_blas}, {0}},
#if defined(__x86_64__) /* elsewhere their files are not compiled */
    {"avx2",
     {k_conv_avx2, k_gemm_avx2, k_loss_avx2, k_norm_avx2, k_optim_avx2, k_peak_avx2,
      k_pointwise_avx2, k_pool_avx2, k_random_avx2, k_reduce_avx2},
     {k_norm_narrow_avx2, k_pointwise_narrow_avx2, k_pool_narrow_avx2, k_random_narrow_avx2,
      k_reduce_narrow_avx2}},
    {"avx512",
     {k_conv_avx512, k_gemm_avx512, k_loss_avx512, k_norm_avx512, k_optim_avx512, k_peak_avx512,
      k_pointwise_avx512, k_pool_avx512, k_random_avx512, k_reduce_avx512},
     {k_norm_narrow_avx512, k_pointwise_narrow_avx512, k_pool_narrow_avx512, k_random_narrow_avx512,
      k_reduce_narrow_avx512}},
    {"avx512bf16", {0}, {0}},
#endif
};
enum { VARIANTS = sizeof variants / sizeof *variants };

static int runs_here(const char *variant) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!strcmp(variant, "avx2")) return avx2;
    if (!strcmp(variant, "avx512")) return avx512;
    if (!strcmp(variant, "avx512bf16")) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
    (void)variant;
    return 1;
}

static void fill(k_table *t, int last, int narrow) {
    for (int i = 0; i <= last; i++) {
        overlay *const *family = narrow ? variants[i].narrow : variants[i].wide;
        if (!runs_here(variants[i].name)) continue;
        for (int f = 0; f < MAX_FAMILIES && family[f]; f++) family[f](t);
    }
}

static int in_force;

int k_select(k_table *wide, k_table *narrow, const char *variant) {
    int last = -1;
    for (int i = 0; i < VARIANTS; i++) {
        if (variant && strcmp(variants[i].name, variant)) continue;
        if (runs_here(variants[i].name)) last = i;
        if (variant) break;
    }
    if (last < 0) return -1;
    memset(wide, 0, sizeof *wide);
    fill(wide, last, 0);
    *narrow = *wide;
    narrow->gemm_relu = 0; /* what joins two ops takes no bf16 unless it is said below */
    narrow->gemm_bias_grad = 0;
    narrow->conv_joined = 0;
    narrow->conv_joined_scratch = 0;
    narrow->batch_norm_relu = 0;
    fill(narrow, last, 1);
    in_force = last;
    return 0;
}

const char *k_variant(void) { return variants[in_force].name; }
