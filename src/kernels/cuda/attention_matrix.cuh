#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tensor_core.cuh"

/// What attention of the matrix class (docs/numerics.md) is made of, for tiles and for single rows.
namespace headrace::cuda {

/// What the steps so far came to, of 16 rows: a lane has two of them (tensor_core.cuh),
/// and two of every eight output dimensions.
template <int kTiles>
struct RunningSums {
  float max[2];
  float weighted[kTiles][4];
  float sum[4];

  __device__ __forceinline__ void clear() {
    max[0] = max[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[i] = 0.0f;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) weighted[n][i] = 0.0f;
    }
  }
  /// `next` is the largest score of the next step for row g + 8 * upper.
  __device__ __forceinline__ void raise_max(int upper, float next) {
    const float both = larger(max[upper], next);
    const float keep = canonical_exp(__fsub_rn(max[upper], both));
    max[upper] = both;
#pragma unroll
    for (int i = 2 * upper; i < 2 * upper + 2; ++i) {
      sum[i] = __fmul_rn(keep, sum[i]);
#pragma unroll
      for (int n = 0; n < kTiles; ++n) weighted[n][i] = __fmul_rn(keep, weighted[n][i]);
    }
  }
  /// Adds up a group of 16 weights of each row.
  template <typename T>
  __device__ __forceinline__ void add_weights(const SplitFragment& weights) {
    const unsigned ones = packed(round_to<T>(1.0f), round_to<T>(1.0f));
    const unsigned right[2] = {ones, ones};
    multiply_add<T>(sum, weights.high, right);
    multiply_add<T>(sum, weights.low, right);
  }
};

}  // namespace headrace::cuda
