/* element.h - what the elements of activations are in memory: floats or, in the files of the narrow
 * table, which define K_NARROW, bf16, the upper half of a float.
 *
 * A kernel is written once, over `element`, and compiled for both: what it reads becomes float, and
 * what it writes is rounded once. A float becomes the nearest bf16, ties to even; a NaN stays a
 * NaN.
 *
 * Surprising: the slots of either table have the same types, so what a slot of the narrow one gets
 * as float pointers are none; elements() and k_elements() say what they are. */
#ifndef CNN_ELEMENT_H
#define CNN_ELEMENT_H

#include "simd.h"

#include <stdint.h>
#include <string.h>

static inline float k_bf16_to_f32(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static inline uint16_t k_f32_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#if K_NARROW
typedef uint16_t element;
static inline float from_element(element x) { return k_bf16_to_f32(x); }
static inline element to_element(float x) { return k_f32_to_bf16(x); }
#else
typedef float element;
static inline float from_element(element x) { return x; }
static inline element to_element(float x) { return x; }
#endif

/* What a slot was given, as what it is. */
static inline element *elements(float *p) { return (void *)p; }
static inline const element *elements_of(const float *p) { return (const void *)p; }

#if K_SIMD

#if K_NARROW && defined(__AVX512F__)

typedef __m256i packed; /* bf16, as many as a vec has floats */

static inline vec widened(packed x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
static inline packed narrowed(vec x) {
    const __m512i bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    up = _mm512_mask_or_epi32(up, vec_nan(x), bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}
static inline packed packed_load(const element *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline packed packed_load_part(const element *p, int64_t n) {
    return _mm256_maskz_loadu_epi16(vec_first(n), p);
}
static inline void packed_store(element *p, packed x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline void packed_store_part(element *p, packed x, int64_t n) {
    _mm256_mask_storeu_epi16(p, vec_first(n), x);
}
static inline void packed_stream(element *p, packed x) { _mm256_stream_si256((__m256i *)p, x); }

#elif K_NARROW

typedef __m128i packed;

static inline vec widened(packed x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
static inline packed narrowed(vec x) {
    const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const vec quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x400000)));
    up = _mm256_srli_epi32(
        _mm256_castps_si256(vec_pick(vec_nan(x), quiet, _mm256_castsi256_ps(up))), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
}
static inline packed packed_load(const element *p) { return _mm_loadu_si128((const __m128i *)p); }
static inline packed packed_load_part(const element *p, int64_t n) {
    element part[LANES] = {0};
    memcpy(part, p, n * sizeof *p);
    return packed_load(part);
}
static inline void packed_store(element *p, packed x) { _mm_storeu_si128((__m128i *)p, x); }
static inline void packed_store_part(element *p, packed x, int64_t n) {
    element part[LANES];
    packed_store(part, x);
    memcpy(p, part, n * sizeof *p);
}
static inline void packed_stream(element *p, packed x) { _mm_stream_si128((__m128i *)p, x); }

#else

typedef vec packed;

static inline vec widened(packed x) { return x; }
static inline packed narrowed(vec x) { return x; }
static inline packed packed_load(const element *p) { return vec_load(p); }
static inline packed packed_load_part(const element *p, int64_t n) { return vec_load_part(p, n); }
static inline void packed_store(element *p, packed x) { vec_store(p, x); }
static inline void packed_store_part(element *p, packed x, int64_t n) { vec_store_part(p, x, n); }
static inline void packed_stream(element *p, packed x) { vec_stream(p, x); }

#endif

/* LANES elements, or the first n of them, as in simd.h. */
static inline vec load(const element *p) { return widened(packed_load(p)); }
static inline vec load_part(const element *p, int64_t n) { return widened(packed_load_part(p, n)); }
static inline vec load_upto(const element *p, int64_t n) {
    return n >= LANES ? load(p) : load_part(p, n);
}
static inline void store(element *p, vec x) { packed_store(p, narrowed(x)); }
static inline void store_part(element *p, vec x, int64_t n) {
    packed_store_part(p, narrowed(x), n);
}
static inline void store_upto(element *p, vec x, int64_t n) {
    if (n >= LANES)
        store(p, x);
    else
        store_part(p, x, n);
}
static inline void stream(element *p, vec x) { packed_stream(p, narrowed(x)); }
static inline int can_stream(const element *p) { return (uintptr_t)p % sizeof(packed) == 0; }

/* 8 x 8 elements, rows `from_row` apart, to their transpose with rows `to_row` apart: of bf16 pairs
 * of rows, then pairs of pairs, then halves change places. */
static inline void transpose_square(const element *from, int64_t from_row, element *to,
                                    int64_t to_row) {
#if K_NARROW
    __m128i x[8], y[8];
    for (int i = 0; i < 8; i++) x[i] = _mm_loadu_si128((const __m128i *)(from + i * from_row));
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm_unpacklo_epi16(x[i], x[i + 1]);
        y[i + 1] = _mm_unpackhi_epi16(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            x[i + 2 * k] = _mm_unpacklo_epi32(y[i + k], y[i + k + 2]);
            x[i + 2 * k + 1] = _mm_unpackhi_epi32(y[i + k], y[i + k + 2]);
        }
    for (int i = 0; i < 4; i++) {
        __m128i *first = (__m128i *)(to + 2 * i * to_row);
        _mm_storeu_si128(first, _mm_unpacklo_epi64(x[i], x[i + 4]));
        _mm_storeu_si128((__m128i *)(to + (2 * i + 1) * to_row),
                         _mm_unpackhi_epi64(x[i], x[i + 4]));
    }
#else
    transpose_8x8(from, from_row, to, to_row);
#endif
}

#endif
#endif
