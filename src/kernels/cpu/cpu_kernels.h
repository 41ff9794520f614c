#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/coded_kernels.h"
#include "kernels/cpu/leaf_order.h"
#include "kernels/host_workers.h"
#include "tensor/dtype.h"

namespace headrace::cpu {

/// Rows of weights and where their products go: out[t * stride + r] for row r and token row t.
struct MatrixRows {
  DType dtype = DType::kFloat16;
  const std::byte* weights = nullptr;
  size_t row_stride_bytes = 0;
  int64_t rows = 0;
  int64_t k = 0;
  int64_t tokens = 0;
  float* out = nullptr;
  int64_t stride = 0;
  const float* bias = nullptr;  // [rows] or null
  bool accumulate = false;
  const RowDecoder* decoder = nullptr;  // null: the rows are raw
};

/// Up to here matmul_few is the faster of the two matrix kernels.
inline constexpr int64_t kFewTokens = 8;
/// Token rows are packed for matmul_many in tiles of this many (the last may hold one).
inline constexpr int kTileTokens = 2;
/// Weight rows are packed in tiles of this many.
inline constexpr int kTileRows = 4;

/// The kernels of one instruction set. All compute what docs/numerics.md says, bit for bit; none
/// allocates, and none touches memory beyond the elements that it is told of. Thread-safe: only
/// their arguments are touched.
struct CpuKernels {
  int lanes;

  void (*widen)(DType dtype, const std::byte* from, int64_t count, float* to);
  void (*narrow)(DType dtype, const float* from, int64_t count, std::byte* to);
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t width, DType dtype,
                   std::byte* out);
  void (*silu_multiply)(const float* a, const float* b, int64_t count, DType dtype, std::byte* out);
  /// Rotates one head: the pairs (x[i], x[i + half]).
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);

  /// Copies the bits of `count` words, which another writes meanwhile. Whether all of them had the
  /// number.
  bool (*take_words)(const HostWord* words, size_t count, uint32_t number, uint32_t* bits);

  /// One row of x for matmul_few: K floats, and -0 up to a whole number of vectors.
  void (*pack_row)(DType dtype, const std::byte* x, int64_t k, float* packed);
  /// For up to kFewTokens token rows. x: rows of pack_row, x_stride floats apart.
  void (*matmul_few)(const MatrixRows& rows, const float* x, int64_t x_stride);

  /// x for matmul_many: `tokens` (1 or 2) rows in leaf order, vector by vector in turn.
  void (*pack_tokens)(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens,
                      const LeafOrder& order, int64_t k, float* packed);
  /// Any number of tokens. x: tiles of kTileTokens from pack_tokens, one after the other.
  /// `scratch` holds matmul_scratch_floats().
  void (*matmul_many)(const MatrixRows& rows, const LeafOrder& order, const float* x,
                      float* scratch);

  /// c[r, n] (+)= sum over s of a[r, s] * b[s, n], by fma in increasing s, from 0 if `start`.
  /// `columns` counts whole vectors x lanes: rows of b and c are padded.
  void (*multiply_in_order)(int64_t rows, int64_t steps, int64_t columns, const float* a,
                            int64_t a_stride, const float* b, int64_t b_stride, float* c,
                            int64_t c_stride, bool start);
  /// Turns `count` dot products into probabilities e^(scale * s - max), in place, and returns the
  /// max and the sum of the probabilities. The row is padded to a whole number of vectors.
  void (*softmax_split)(float* scores, int64_t count, float scale, float* max, float* sum);
  /// Folds (max, sum, weighted) of the next split into the first three.
  void (*fold)(float* max, float* sum, float* weighted, float next_max, float next_sum,
               const float* next_weighted, int64_t head_dim);
  /// out = weighted / sum.
  void (*finish)(const float* weighted, float sum, int64_t head_dim, DType dtype, std::byte* out);
};

/// Null where this build has no such kernels.
const CpuKernels* avx512_kernels();
const CpuKernels* avx2_kernels();
const CpuKernels* portable_kernels();
/// Null where this processor cannot run them either.
const CpuKernels* kernels_for(CpuIsa isa);
/// Of the best instruction set that this processor has.
const CpuKernels& best_kernels();

}  // namespace headrace::cpu
