#pragma once

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"

/// What the kernels of attention share.
namespace headrace::cuda {

inline constexpr int kSplit = static_cast<int>(numerics::kAttentionSplit);
inline constexpr int kStep = static_cast<int>(numerics::kAttentionStep);
inline constexpr int kSumLanes = static_cast<int>(numerics::kSumLanes);

__device__ __forceinline__ int log2_of(int power_of_two) { return 31 - __clz(power_of_two); }

/// In every lane, the largest of a warp's values, of which none is a NaN.
__device__ __forceinline__ float largest_of_warp(float value) {
#pragma unroll
  for (int s = 16; s > 0; s /= 2) value = larger(value, __shfl_xor_sync(0xffffffffu, value, s));
  return value;
}

/// Where K and V of one head are in the cache, for the sequence of a tile. REQUIRES: blocks of a power
/// of two of positions.
template <typename T, int kHeadDim>
struct HeadCache {
  int block_shift;  // log2(positions of a block)
  const int32_t* table;
  const T* k;  // of the head in block 0
  const T* v;
  int64_t block_stride;

  __device__ HeadCache(const AttentionParams& params, const RowTile& tile, int head)
      : block_shift(log2_of(static_cast<int>(params.kv.block_tokens))),
        table(params.blocks + tile.table_begin),
        block_stride(params.kv.block_stride) {
    const int64_t kv_head = head / (params.heads / params.kv.kv_heads);
    const int64_t head_elements = kHeadDim * params.kv.block_tokens;
    k = reinterpret_cast<const T*>(params.kv.k) + kv_head * head_elements;
    v = reinterpret_cast<const T*>(params.kv.v) + kv_head * head_elements;
  }
  __device__ __forceinline__ int64_t block_at(int position) const {
    return table[position >> block_shift] * block_stride;
  }
  __device__ __forceinline__ int in_block(int position) const {
    return position & ((1 << block_shift) - 1);
  }
  /// Dimension 0 of K at a position; dimension d is k_dim(d) after it.
  __device__ __forceinline__ const T* k_at(int position) const {
    return k + block_at(position) + in_block(position);
  }
  __device__ __forceinline__ int64_t k_dim(int d) const {
    return static_cast<int64_t>(d) << block_shift;
  }
  /// The row of V at a position.
  __device__ __forceinline__ const T* v_at(int position) const {
    return v + block_at(position) + in_block(position) * kHeadDim;
  }
};

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

/// Launches with that much shared memory a block; false, and nothing is launched, if the device has
/// less.
template <auto kKernel>
bool launch_attention(dim3 grid, int threads, size_t shared_bytes, const AttentionParams& params,
                      Queue& queue) {
  static const bool fits =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(shared_bytes)) == cudaSuccess;
  if (!fits) {
    cudaGetLastError();
    return false;
  }
  launch(queue, kKernel, grid, dim3(static_cast<unsigned>(threads)), shared_bytes, params);
  return true;
}

/// The same with a block per tile and head.
template <auto kKernel>
bool launch_attention_tiles(int threads, size_t shared_bytes, const AttentionParams& params,
                            Queue& queue) {
  const dim3 grid(static_cast<unsigned>(params.tile_count), static_cast<unsigned>(params.heads));
  return launch_attention<kKernel>(grid, threads, shared_bytes, params, queue);
}

/// Attention of whole tiles, for the shapes that have such a kernel; false for others.
bool attention_tiles(const AttentionParams& params, Queue& queue);

/// Attention of tiles of one row, for the shapes that have such a kernel; false for others.
bool attention_decode(const AttentionParams& params, Queue& queue);

/// The same where no multiprocessor gets more than one split and K and V are stored on the way; false
/// for others. REQUIRES: attention_is_specialized().
bool attention_decode_early(const AttentionParams& params, Queue& queue);

/// Attention of the matrix class. REQUIRES: attention_is_specialized().
void attention_tiles_matrix(const AttentionParams& params, Queue& queue);
/// The same where a block's warps can multiply together (sm_90a); false, and nothing done, elsewhere.
/// REQUIRES: params.whole_steps.
bool attention_tiles_together(const AttentionParams& params, Queue& queue);
void attention_decode_matrix(const AttentionParams& params, Queue& queue);

/// Calls the statement with the type T and the head size of a cache that attention_is_specialized() for.
#define HR_DISPATCH_SPECIALIZED(kv, T, kHeadDim, ...)      \
  if ((kv).dtype == ::headrace::DType::kFloat16) {         \
    using T = __half;                                      \
    HR_DISPATCH_HEAD_DIM((kv).head_dim, kHeadDim, __VA_ARGS__) \
  } else {                                                 \
    using T = __nv_bfloat16;                               \
    HR_DISPATCH_HEAD_DIM((kv).head_dim, kHeadDim, __VA_ARGS__) \
  }
#define HR_DISPATCH_HEAD_DIM(head_dim, kHeadDim, ...) \
  if ((head_dim) == 64) {                             \
    constexpr int kHeadDim = 64;                      \
    __VA_ARGS__;                                      \
  } else {                                            \
    constexpr int kHeadDim = 128;                     \
    __VA_ARGS__;                                      \
  }

}  // namespace headrace::cuda
