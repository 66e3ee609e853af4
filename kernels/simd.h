/* simd.h - one vector type for both x86 widths, so that every SIMD kernel is written once.
 *
 * A file compiled for AVX-512 or AVX2 includes it and gets `vec` (16 or 8 floats), `vec_mask` (a
 * truth value a lane) and the functions below, one instruction or a few each. +, -, *, / work on
 * vec as they are. K_SIMD is defined where there is a vector unit; elsewhere the *_simd.h files
 * leave the table as it is.
 *
 * Surprising: vec_max(a, b) is a > b ? a : b and vec_min likewise, so when either is NaN the result
 * is b. Callers put the operand whose NaN has to stay second. */
#ifndef CNN_SIMD_H
#define CNN_SIMD_H

#include <stdint.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#define K_SIMD 1
#include <immintrin.h>
#endif

#if defined(__AVX512F__)

typedef __m512 vec;
typedef __mmask16 vec_mask;
enum { LANES = 16 };

static inline vec vec_set(float x) { return _mm512_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
/* The first n floats, 0 <= n <= LANES; the others load as 0 and are not stored. */
static inline __mmask16 vec_first(int64_t n) { return (__mmask16)((1u << n) - 1); }
static inline vec vec_load_part(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(vec_first(n), p);
}
/* The first n lanes of x, the others of `other`. */
static inline vec vec_join(vec x, int64_t n, vec other) {
    return _mm512_mask_blend_ps(vec_first(n), other, x);
}
static inline void vec_store_part(float *p, vec x, int64_t n) {
    _mm512_mask_storeu_ps(p, vec_first(n), x);
}
static inline void vec_stream(float *p, vec x) { _mm512_stream_ps(p, x); }

static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm512_sqrt_ps(a); }
static inline vec vec_abs(vec a) { return _mm512_abs_ps(a); }
static inline vec vec_round(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
/* a * 2^n for a whole n, to infinity and to zero where it has to. */
static inline vec vec_scale(vec a, vec n) { return _mm512_scalef_ps(a, n); }

static inline vec_mask vec_eq(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vec_mask vec_ne(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
static inline vec_mask vec_lt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vec_mask vec_le(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline vec_mask vec_unordered(vec a, vec b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
static inline vec_mask vec_both(vec_mask m, vec_mask n) { return m & n; }
static inline vec_mask vec_either(vec_mask m, vec_mask n) { return m | n; }
static inline vec vec_pick(vec_mask m, vec a, vec b) { return _mm512_mask_blend_ps(m, b, a); }
static inline vec vec_keep(vec_mask m, vec a) { return _mm512_maskz_mov_ps(m, a); }

/* Whole numbers 0 .. 255, one a lane, which are bytes in memory. */
typedef __m128i vec_int;
static inline vec_int int_set(int x) { return _mm_set1_epi8((char)x); }
static inline vec_int int_pick(vec_mask m, vec_int a, vec_int b) {
    return _mm_mask_blend_epi8(m, b, a);
}
static inline vec_mask int_eq(vec_int a, vec_int b) { return _mm_cmpeq_epi8_mask(a, b); }
static inline vec_int int_load_bytes(const uint8_t *p, int64_t n) {
    return _mm_maskz_loadu_epi8(vec_first(n), p);
}
static inline void int_store_bytes(uint8_t *p, vec_int x, int64_t n) {
    _mm_mask_storeu_epi8(p, vec_first(n), x);
}

#elif defined(__AVX2__)

#include <string.h>

typedef __m256 vec;
typedef __m256 vec_mask;
enum { LANES = 8 };

static inline vec vec_set(float x) { return _mm256_set1_ps(x); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm256_storeu_ps(p, x); }
/* The first n floats, 0 <= n <= LANES; the others load as 0 and are not stored. */
static inline __m256i vec_first(int64_t n) {
    static const int32_t window[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(window + LANES - n));
}
static inline vec vec_load_part(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, vec_first(n));
}
/* The first n lanes of x, the others of `other`. */
static inline vec vec_join(vec x, int64_t n, vec other) {
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(vec_first(n)));
}
static inline void vec_store_part(float *p, vec x, int64_t n) {
    if (n == LANES)
        vec_store(p, x); /* masked stores are slow */
    else
        _mm256_maskstore_ps(p, vec_first(n), x);
}
static inline void vec_stream(float *p, vec x) { _mm256_stream_ps(p, x); }

static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec vec_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec vec_sqrt(vec a) { return _mm256_sqrt_ps(a); }
static inline vec vec_abs(vec a) { return _mm256_andnot_ps(vec_set(-0.0f), a); }
static inline vec vec_round(vec a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a * 2^n for a whole n, to infinity and to zero where it has to; |n| < 254. In two factors, as
 * 2^n alone may not be a float where a * 2^n is one. */
static inline vec vec_scale(vec a, vec n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half), one = _mm256_set1_epi32(127);
    vec x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    vec y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23));
    return a * x * y;
}

static inline vec_mask vec_eq(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vec_mask vec_ne(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
static inline vec_mask vec_lt(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vec_mask vec_le(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline vec_mask vec_unordered(vec a, vec b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
static inline vec_mask vec_both(vec_mask m, vec_mask n) { return _mm256_and_ps(m, n); }
static inline vec_mask vec_either(vec_mask m, vec_mask n) { return _mm256_or_ps(m, n); }
static inline vec vec_pick(vec_mask m, vec a, vec b) { return _mm256_blendv_ps(b, a, m); }
static inline vec vec_keep(vec_mask m, vec a) { return _mm256_and_ps(m, a); }

/* Whole numbers 0 .. 255, one a lane, which are bytes in memory. */
typedef __m256i vec_int;
static inline vec_int int_set(int x) { return _mm256_set1_epi32(x); }
static inline vec_int int_pick(vec_mask m, vec_int a, vec_int b) {
    return _mm256_blendv_epi8(b, a, _mm256_castps_si256(m));
}
static inline vec_mask int_eq(vec_int a, vec_int b) {
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
}
static inline vec_int int_load_bytes(const uint8_t *p, int64_t n) {
    uint64_t bytes = 0;
    if (n >= LANES)
        memcpy(&bytes, p, LANES);
    else
        memcpy(&bytes, p, n);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
}
static inline void int_store_bytes(uint8_t *p, vec_int x, int64_t n) {
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
    if (n == LANES) /* one instruction, not a call */
        memcpy(p, &bytes, LANES);
    else
        memcpy(p, &bytes, n);
}

#endif

#if K_SIMD

/* 8 x 8 floats, rows `from_row` apart, to their transpose with rows `to_row` apart. Both widths use
 * 256 bits: pairs of rows, then pairs of pairs, then the halves of the registers change places. */
static inline void transpose_8x8(const float *from, int64_t from_row, float *to, int64_t to_row) {
    __m256 x[8], y[8];
    for (int i = 0; i < 8; i++) x[i] = _mm256_loadu_ps(from + i * from_row);
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_shuffle_ps(y[i], y[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
        x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
        x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
        x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * to_row, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * to_row, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
    }
}

/* Large outputs, which no cache would keep for the next kernel anyway, are streamed: a plain store
 * reads the line that it is about to overwrite. vec_stream needs an aligned address, and a
 * vec_stream_end before other threads may look. */
enum { K_STREAM_BYTES = 32 << 20 };
static inline void vec_stream_end(void) { _mm_sfence(); }

/* Asks for the cache line at p, which need not exist, ahead of its time. */
static inline void vec_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }

/* The same, not yet into the nearest cache. */
static inline void vec_prefetch_far(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }

static inline vec_mask vec_nan(vec a) { return vec_unordered(a, a); }

/* The first n floats, the others as `other`. */
static inline vec vec_load_or(const float *p, int64_t n, vec other) {
    return vec_join(vec_load_part(p, n), n, other);
}

/* The next floats of a row that ends in n: a full vector or what is left. */
static inline vec vec_load_upto(const float *p, int64_t n) {
    return n >= LANES ? vec_load(p) : vec_load_part(p, n);
}
static inline void vec_store_upto(float *p, vec x, int64_t n) {
    if (n >= LANES)
        vec_store(p, x);
    else
        vec_store_part(p, x, n);
}

/* ------------------------------------------------------------------------- exponential functions
 * With n = round(x / ln 2) and r = x - n ln 2, |r| <= 0.35: e^x = 2^n (1 + r + r^2 q(r)), where q
 * of degree 4 was fitted to (e^r - 1 - r) / r^2 for the smallest relative error, 1.3e-8. */

typedef struct {
    vec n, tail; /* tail: e^r - 1 */
} exp_parts;

static inline exp_parts exp_split(vec x) {
    vec n = vec_round(x * vec_set(0x1.715476p+0f));
    vec r = vec_fma(n, vec_set(-0x1.62e4p-1f), x); /* ln 2 in 17 bits: exact for |n| < 128 */
    r = vec_fma(n, vec_set(-0x1.7f7d1cp-20f), r);
    vec q = vec_set(0x1.6bebfap-10f);
    q = vec_fma(q, r, vec_set(0x1.1227bp-7f));
    q = vec_fma(q, r, vec_set(0x1.555674p-5f));
    q = vec_fma(q, r, vec_set(0x1.5554bp-3f));
    q = vec_fma(q, r, vec_set(0x1.fffffep-2f));
    return (exp_parts){n, vec_fma(r * r, q, r)};
}

/* Off by at most 1.1 ulp; infinity from 88.73 on, NaN stays. */
static inline vec vec_exp(vec x) {
    x = vec_min(vec_set(89), vec_max(vec_set(-104), x));
    exp_parts e = exp_split(x);
    return vec_scale(e.tail + vec_set(1), e.n);
}

/* With t = e^2x - 1: tanh x = t / (t + 2). Off by at most 3 ulp; exactly 1 from 10 on. */
static inline vec vec_tanh(vec x) {
    x = vec_min(vec_set(10), vec_max(vec_set(-10), x));
    exp_parts e = exp_split(x + x);
    vec power = vec_scale(vec_set(1), e.n);
    vec t = vec_fma(power, e.tail, power - vec_set(1));
    return t / (t + vec_set(2));
}

/* Off by at most 2.5 ulp; 0 where e^-x overflows. */
static inline vec vec_sigmoid(vec x) { return vec_set(1) / (vec_set(1) + vec_exp(-x)); }

/* The normal distribution left of -|x|, divided by e^(-x^2/2): u p(u) with u = 1 / (1 + |x|/4) and
 * p of degree 9, fitted for the smallest relative error, 3.4e-8. */
static inline vec normal_tail(vec x) {
    static const float p[] = {0.019797182f, -0.08094443f, 0.09572116f,  -0.031841923f,
                              0.06377253f,  0.05894924f,  0.081608415f, 0.093465775f,
                              0.09973646f,  0.099735565f};
    vec u = vec_set(1) / vec_fma(vec_abs(x), vec_set(0.25f), vec_set(1));
    vec sum = vec_set(p[0]);
    for (int i = 1; i < 10; i++) sum = vec_fma(sum, u, vec_set(p[i]));
    return sum * u;
}

typedef struct {
    vec below, density; /* the normal distribution below x, and its density at x */
} normal_values;

static inline normal_values normal_at(vec x) {
    vec bell = vec_exp(x * x * vec_set(-0.5f)), tail = normal_tail(x) * bell;
    vec below = vec_pick(vec_lt(vec_set(0), x), vec_set(1) - tail, tail);
    return (normal_values){below, bell * vec_set(0.3989423f)};
}

#endif
#endif
