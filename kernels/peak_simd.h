/* peak_simd.h - the most multiply-adds that a core does, for AVX2 and AVX-512 alike.
 *
 * Chains of dependent multiply-adds that touch no memory: as many as hide an instruction's latency
 * (4 or 5 cycles) on two units, and few enough for AVX2's 16 registers. One FMA and no load an
 * inner step.
 *
 * Surprising: every chain converges to 1, so the values never become denormal or infinite, which
 * some cores do at another speed. */
#include "kernels.h"
#include "simd.h"

#if K_SIMD

enum { CHAINS = 12 };

static int64_t fma_chains(int64_t rounds, float *sink) {
    const vec half = vec_set(0.5f);
    vec x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = vec_set((float)i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) x[i] = vec_fma(x[i], half, half);
    for (int i = 1; i < CHAINS; i++) x[0] += x[i];
    *sink = x[0][0];
    return rounds * CHAINS * LANES * 2;
}

/* Products of two bf16 pairs are added to each lane: four operations. */
#if defined(__AVX512F__)
__attribute__((target("avx512bf16"))) static int64_t dot_chains(int64_t rounds, float *sink) {
    const __m512bh one = (__m512bh)_mm512_set1_epi32(0x3f803f80),
                   zero = (__m512bh)_mm512_setzero_si512();
    vec x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = vec_set((float)i);
    for (int64_t r = 0; r < rounds; r++)
        for (int i = 0; i < CHAINS; i++) x[i] = _mm512_dpbf16_ps(x[i], one, zero);
    for (int i = 1; i < CHAINS; i++) x[0] += x[i];
    *sink = x[0][0];
    return rounds * CHAINS * LANES * 4;
}
static int has_dots(void) { return __builtin_cpu_supports("avx512bf16"); }
#else
static int64_t dot_chains(int64_t rounds, float *sink) { return (void)rounds, (void)sink, 0; }
static int has_dots(void) { return 0; }
#endif

static int64_t peak(k_dtype dtype, int64_t rounds, float *sink) {
    if (dtype == K_F32) return fma_chains(rounds, sink);
    return dtype == K_BF16 && has_dots() ? dot_chains(rounds, sink) : 0;
}

static void peak_simd(k_table *t) { t->peak = peak; }

#else
static void peak_simd(k_table *t) { (void)t; }
#endif
