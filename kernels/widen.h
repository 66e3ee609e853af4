/* widen.h - matrices of bf16 to float32 and back, for kernels that compute in float32 on bf16
 * storage. */
#ifndef CNN_WIDEN_H
#define CNN_WIDEN_H

#include "element.h"
#include "kernels.h"

enum { MOVED = 1 << 14 }; /* elements that a task moves, about */

/* rows x c; the rows of bf16 are ld apart, those of floats c. */
typedef struct {
    int64_t rows, c, ld;
    uint16_t *bf16;
    float *f32;
} two_forms;

static void widen_task(void *ctx, int64_t begin, int64_t end) {
    const two_forms *m = ctx;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < m->c; j++)
            m->f32[i * m->c + j] = k_bf16_to_f32(m->bf16[i * m->ld + j]);
}

static void round_task(void *ctx, int64_t begin, int64_t end) {
    const two_forms *m = ctx;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < m->c; j++)
            m->bf16[i * m->ld + j] = k_f32_to_bf16(m->f32[i * m->c + j]);
}

static void move_rows(two_forms m, k_task *task) {
    if (!m.c) return;
    if (m.ld == m.c) m.rows *= m.c, m.c = m.ld = 1; /* as long as they are */
    k_parallel(m.rows, MOVED / m.c + 1, task, &m);
}

static inline void widen_rows(int64_t rows, int64_t c, const uint16_t *from, int64_t ld,
                              float *to) {
    move_rows((two_forms){rows, c, ld, (uint16_t *)from, to}, widen_task);
}

static inline void round_rows(int64_t rows, int64_t c, const float *from, uint16_t *to,
                              int64_t ld) {
    move_rows((two_forms){rows, c, ld, to, (float *)from}, round_task);
}

/* A piece of scratch memory for so many floats; *used, in bytes, moves on. */
static inline float *piece_of(void *scratch, int64_t *used, int64_t floats) {
    float *piece = scratch ? (float *)((char *)scratch + *used) : 0;
    *used += (floats + 15) / 16 * 64;
    return piece;
}

#endif
