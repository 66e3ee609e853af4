/* random_simd.h - uniform numbers and dropout for AVX2 and AVX-512 alike.
 *
 * The same bits as random_generic.c, which tells the layout. A lane of 64 bits works on one block:
 * a product of Philox is then one instruction, both halves at once; 20 of them, and 60 others, make
 * LANES / 2 blocks, 2 * LANES elements. 4 bytes an element, dropout 8: measured on two Zen 5 cores
 * 0.8 (AVX2 0.3) of the copy bandwidth for dropout of 128 x 4096, 20 times the plain loop's.
 *
 * Surprising: nothing is shuffled. The even lanes take the first half of the blocks and the odd
 * lanes the second, and interleaving the low halves of pairs of lanes then gives whole blocks, in
 * their order. What the high half of a lane holds never matters. */
#include "element.h"
#include "kernels.h"

#if K_SIMD

enum { BLOCK = 4, ELEMENTS = 2 * LANES, GRAIN = 1 << 14 /* a multiple of ELEMENTS */ };

#if defined(__AVX512F__)
typedef __m512i lanes; /* of 64 bits */
static inline lanes lanes_set(uint64_t x) { return _mm512_set1_epi64((long long)x); }
static inline lanes lanes_of_blocks(void) { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
static inline lanes lanes_add(lanes a, lanes b) { return _mm512_add_epi64(a, b); }
static inline lanes lanes_xor(lanes a, lanes b, lanes c) {
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
static inline lanes lanes_multiply(lanes a, lanes b) { return _mm512_mul_epu32(a, b); }
static inline lanes lanes_high(lanes a) { return _mm512_srli_epi64(a, 32); }
/* The low halves of a and of b, side by side. */
static inline lanes lanes_pair(lanes a, lanes b) {
    return _mm512_mask_shuffle_epi32(a, 0xaaaa, b, _MM_PERM_CCAA);
}
static inline lanes lanes_even(lanes a, lanes b) { return _mm512_unpacklo_epi64(a, b); }
static inline lanes lanes_odd(lanes a, lanes b) { return _mm512_unpackhi_epi64(a, b); }
static inline vec lanes_unit(lanes a) {
    return _mm512_cvtepi32_ps(_mm512_srli_epi32(a, 8)) * vec_set(0x1p-24f);
}
#else
typedef __m256i lanes;
static inline lanes lanes_set(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
static inline lanes lanes_of_blocks(void) { return _mm256_setr_epi64x(0, 2, 1, 3); }
static inline lanes lanes_add(lanes a, lanes b) { return _mm256_add_epi64(a, b); }
static inline lanes lanes_xor(lanes a, lanes b, lanes c) {
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
static inline lanes lanes_multiply(lanes a, lanes b) { return _mm256_mul_epu32(a, b); }
static inline lanes lanes_high(lanes a) { return _mm256_srli_epi64(a, 32); }
static inline lanes lanes_pair(lanes a, lanes b) {
    return _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xaa);
}
static inline lanes lanes_even(lanes a, lanes b) { return _mm256_unpacklo_epi64(a, b); }
static inline lanes lanes_odd(lanes a, lanes b) { return _mm256_unpackhi_epi64(a, b); }
static inline vec lanes_unit(lanes a) {
    return _mm256_cvtepi32_ps(_mm256_srli_epi32(a, 8)) * vec_set(0x1p-24f);
}
#endif

/* Elements 4 * counter and on, as numbers in [0, 1). */
static inline void units(uint64_t counter, const k_draw *d, vec unit[2]) {
    lanes c0 = lanes_add(lanes_set(counter), lanes_of_blocks()), c1 = lanes_high(c0);
    lanes c2 = lanes_set(d->stream), c3 = lanes_high(c2);
    const lanes m0 = lanes_set(0xD2511F53), m1 = lanes_set(0xCD9E8D57);
    uint32_t k0 = d->seed, k1 = d->seed >> 32;
    for (int round = 0; round < 10; round++) {
        lanes p0 = lanes_multiply(c0, m0), p1 = lanes_multiply(c2, m1);
        c0 = lanes_xor(lanes_high(p1), c1, lanes_set(k0));
        c2 = lanes_xor(lanes_high(p0), c3, lanes_set(k1));
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    lanes first = lanes_pair(c0, c1), second = lanes_pair(c2, c3);
    unit[0] = lanes_unit(lanes_even(first, second));
    unit[1] = lanes_unit(lanes_odd(first, second));
}

typedef struct {
    k_draw draw;
    float p;
    const element *x;
    element *y;
} dropout_job;

static void dropout_range(void *ctx, int64_t begin, int64_t end) {
    const dropout_job *j = ctx;
    const vec p = vec_set(j->p), scale = vec_set(1 / (1 - j->p));
    for (int64_t i = begin; i < end; i += ELEMENTS) {
        vec unit[2];
        units(i / BLOCK, &j->draw, unit);
        for (int64_t k = 0; k < ELEMENTS && i + k < end; k += LANES) {
            vec x = load_upto(j->x + i + k, end - i - k) * scale;
            vec y = vec_pick(vec_lt(unit[k / LANES], p), vec_set(0), x);
            store_upto(j->y + i + k, y, end - i - k);
        }
    }
}

static void dropout(int64_t n, const k_draw *d, float p, const float *x, float *y) {
    dropout_job j = {*d, p, elements_of(x), elements(y)};
    k_parallel(n, GRAIN, dropout_range, &j);
}

#if !K_NARROW

typedef struct {
    k_draw draw;
    float lo, range;
    float *y;
} random_job;

/* A product that is rounded before anything is added to it, as in the generic kernels. */
static inline vec rounded(vec x) {
    __asm__("" : "+v"(x));
    return x;
}

static void uniform_range(void *ctx, int64_t begin, int64_t end) {
    const random_job *j = ctx;
    const vec lo = vec_set(j->lo), range = vec_set(j->range);
    for (int64_t i = begin; i < end; i += ELEMENTS) {
        vec unit[2];
        units(i / BLOCK, &j->draw, unit);
        for (int64_t k = 0; k < ELEMENTS && i + k < end; k += LANES)
            vec_store_upto(j->y + i + k, lo + rounded(range * unit[k / LANES]), end - i - k);
    }
}

static void uniform(int64_t n, const k_draw *d, float lo, float hi, float *y) {
    random_job j = {*d, lo, hi - lo, y};
    k_parallel(n, GRAIN, uniform_range, &j);
}

#endif

static void random_simd(k_table *t) {
    t->dropout = dropout;
#if !K_NARROW
    t->uniform = uniform;
#endif
}

#else
static void random_simd(k_table *t) { (void)t; }
#endif
