#pragma once

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {

inline constexpr int kNormThreads = static_cast<int>(numerics::kPartials);

/// The scale of a row, whose squares' canonical sum is given.
__device__ __forceinline__ float norm_scale(float squares, int width, float epsilon) {
  const float mean = __fdiv_rn(squares, static_cast<float>(width));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, epsilon)));
}
template <typename T>
__device__ __forceinline__ T normed(float x, float scale, float weight) {
  return round_to<T>(__fmul_rn(__fmul_rn(x, scale), weight));
}

/// rms_norm of one row (docs/numerics.md) by kNormThreads threads of a block, `thread` of them each;
/// each owns a partial sum. The first elements of a thread stay in registers, whole batches of them.
/// Every thread of the block calls the functions, as they meet at a barrier; where there is no row, with
/// row null. The code is short, as it runs once in a launch, before anything else can.
template <typename T>
class RowNorm {
 public:
  /// What needs no earlier kernel.
  __device__ __forceinline__ RowNorm(const float* weight, int width, int thread)
      : weight_(weight), width_(width), thread_(thread) {
    for_kept([&](int u) { weights_[u] = weight_[index(u)]; });
  }

  /// Begins to read the row.
  __device__ __forceinline__ void read(const float* row) {
    row_ = row;
    if (row_ != nullptr) for_kept([&](int u) { kept_[u] = row_[index(u)]; });
  }

  /// `partials` is shared by the row's threads.
  __device__ __forceinline__ void finish(float epsilon, float (&partials)[kNormThreads]) {
    float sum = 0.0f;
    if (row_ != nullptr) {
      for_kept([&](int u) { sum = __fmaf_rn(kept_[u], kept_[u], sum); });
#pragma unroll 4
      for (int i = first_left(); i < width_; i += kNormThreads) {
        sum = __fmaf_rn(row_[i], row_[i], sum);
      }
    }
    scale_ = norm_scale(tree(sum, partials), width_, epsilon);
  }

  /// Calls put(i, value) for the thread's elements.
  template <typename Put>
  __device__ __forceinline__ void write(const Put& put) const {
    if (row_ == nullptr) return;
    for_kept([&](int u) { put(index(u), scaled(kept_[u], weights_[u])); });
#pragma unroll 4
    for (int i = first_left(); i < width_; i += kNormThreads) put(i, scaled(row_[i], weight_[i]));
  }

 private:
  static constexpr int kBatch = 8;
  static constexpr int kBatches = 2;
  static constexpr int kKept = kBatches * kBatch;

  /// Calls body(u) for the elements in registers.
  template <typename Body>
  __device__ __forceinline__ void for_kept(const Body& body) const {
#pragma unroll
    for (int batch = 0; batch < kBatches; ++batch) {
      if (width_ < (batch + 1) * kBatch * kNormThreads) return;
#pragma unroll
      for (int u = 0; u < kBatch; ++u) body(batch * kBatch + u);
    }
  }
  /// The first element that is not.
  __device__ __forceinline__ int first_left() const {
    return index(min(width_ / (kBatch * kNormThreads), kBatches) * kBatch);
  }

  __device__ __forceinline__ int index(int u) const { return thread_ + u * kNormThreads; }
  __device__ __forceinline__ T scaled(float x, float weight) const {
    return normed<T>(x, scale_, weight);
  }

  /// The canonical tree over all partial sums: every warp adds up all of them.
  __device__ __forceinline__ float tree(float partial, float (&partials)[kNormThreads]) const {
    constexpr int kWarp = 32;
    constexpr int kHeld = kNormThreads / kWarp;
    partials[thread_] = partial;
    __syncthreads();
    float held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i] = partials[thread_ % kWarp + i * kWarp];
#pragma unroll
    for (int s = kHeld / 2; s > 0; s /= 2) {
#pragma unroll
      for (int i = 0; i < s; ++i) held[i] = __fadd_rn(held[i], held[i + s]);
    }
    return __shfl_sync(0xffffffffu, tree_sum<kWarp>(held[0]), 0);
  }

  const float* const weight_;
  const int width_;
  const int thread_;
  const float* row_ = nullptr;
  float scale_ = 0.0f;
  float kept_[kKept];
  float weights_[kKept];
};

}  // namespace headrace::cuda
