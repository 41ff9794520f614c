#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"

/// What the kernels of attention share.
namespace headrace::cuda {

inline constexpr int kSplit = static_cast<int>(numerics::kAttentionSplit);
inline constexpr int kSumLanes = static_cast<int>(numerics::kSumLanes);
inline constexpr int kVectorBytes = static_cast<int>(sizeof(uint4));

/// What the splits so far came to, for kDims output dimensions of a row.
template <int kDims>
struct Folded {
  float max;
  float sum;
  float weighted[kDims];

  __device__ __forceinline__ void clear() {
    max = -INFINITY;
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kDims; ++i) weighted[i] = 0.0f;
  }
  __device__ __forceinline__ void fold(float next_max, float next_sum,
                                       const float (&next_weighted)[kDims]) {
    const float both = larger(max, next_max);
    const float keep = canonical_exp(__fsub_rn(max, both));
    const float take = canonical_exp(__fsub_rn(next_max, both));
    sum = __fmaf_rn(take, next_sum, __fmul_rn(keep, sum));
#pragma unroll
    for (int i = 0; i < kDims; ++i) {
      weighted[i] = __fmaf_rn(take, next_weighted[i], __fmul_rn(keep, weighted[i]));
    }
    max = both;
  }
};

/// Whether this block is the last of `blocks` that come here for the same counter, which it resets.
/// What the others wrote before is then visible. `is_last` is the block's.
__device__ __forceinline__ bool last_to_arrive(int32_t* counter, int blocks, int& is_last) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(counter, 1) == blocks - 1 ? 1 : 0;
    if (is_last != 0) *counter = 0;
  }
  __syncthreads();
  if (is_last == 0) return false;
  __threadfence();
  return true;
}

/// Attention of whole tiles, for the shapes that have such a kernel; false for others.
bool attention_tiles(const AttentionParams& params, Queue& queue);

/// Attention of tiles of one row, for the shapes that have such a kernel; false for others.
bool attention_decode(const AttentionParams& params, Queue& queue);

}  // namespace headrace::cuda
