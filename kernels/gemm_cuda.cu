/* gemm_cuda.cu - the matrix product for cards: one product of tile_cuda.h.
 *
 * Contract: kernels.h's gemm, any strides, fp32 sums. gemm_scratch is 0 unless C has few tiles and
 * a long sum.
 *
 * Surprising: transposed operands cost nothing. They only lie along the other side of a tile. */
#include "tile_cuda.h"

namespace {

/* Each index of an operand moves by 1 or by a row; the pixel of a plain matrix is (0, 0). */
template <bool TA, bool TB> struct matrices {
    enum { A_DEEP = !TA, B_DEEP = TB };
    int64_t rows, columns, depth, first, lda, ldb;

    __device__ void enter(int64_t) {}
    __device__ spot a_row(int64_t i) const { return {TA ? i : i * lda, 0, 0}; }
    __device__ spot a_depth(int64_t k) const { return {TA ? k * lda : k, 0, 0}; }
    __device__ spot b_column(int64_t j) const { return {TB ? j * ldb : j, 0, 0}; }
    __device__ spot b_depth(int64_t k) const { return {TB ? k : k * ldb, 0, 0}; }
    __device__ int64_t c_row(int64_t i) const { return i; }
};

cut gemm_cut(const k_gemm *g) { return cut_of(g->m, g->n, g->k, 1); }

template <bool TA, bool TB>
void launch(const k_gemm *g, const float *a, const float *b, ending last, float *c, void *scratch) {
    matrices<TA, TB> s = {g->m, g->n, g->k, 0, g->lda, g->ldb};
    operand oa = {a, 1, 1, by_fours(a, g->lda, TA ? g->m : g->k)};
    operand ob = {b, 1, 1, by_fours(b, g->ldb, TB ? g->k : g->n)};
    product_launch(s, gemm_cut(g), oa, ob, last, c, g->m, g->n, g->ldc, g->n, scratch);
}

void multiply(const k_gemm *g, const float *a, const float *b, ending last, float *c,
              void *scratch) {
    if (!g->m || !g->n) return;
    auto way = g->ta ? launch<true, false> : launch<false, false>;
    if (g->tb) way = g->ta ? launch<true, true> : launch<false, true>;
    way(g, a, b, last, c, scratch);
}

void gemm(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
          void *scratch) {
    multiply(g, a, b, ending{bias, 0}, c, scratch);
}

void gemm_relu(const k_gemm *g, const float *a, const float *b, const float *bias, float *c,
               void *scratch) {
    multiply(g, a, b, ending{bias, 1}, c, scratch);
}

int64_t gemm_scratch(const k_gemm *g) { return cut_scratch(gemm_cut(g), g->m * g->n); }

} // namespace

extern "C" void k_gemm_cuda(k_table *t) {
    t->gemm = gemm;
    t->gemm_relu = gemm_relu;
    t->gemm_scratch = gemm_scratch;
}
