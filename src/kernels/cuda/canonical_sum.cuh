#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/// Pieces of the canonical sum (docs/numerics.md) as a warp computes it: lane t owns the partial
/// sums 8t .. 8t + 7.
namespace headrace::cuda {

inline constexpr int kLaneColumns = 8;

/// Eight consecutive elements, as loaded from memory, as float32.
template <typename T>
__device__ __forceinline__ void widen8(const uint4* vectors, float (&out)[kLaneColumns]);

template <>
__device__ __forceinline__ void widen8<__half>(const uint4* vectors, float (&out)[kLaneColumns]) {
  const uint32_t words[4] = {vectors->x, vectors->y, vectors->z, vectors->w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 wide = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
    out[2 * i] = wide.x;
    out[2 * i + 1] = wide.y;
  }
}

template <>
__device__ __forceinline__ void widen8<__nv_bfloat16>(const uint4* vectors,
                                                      float (&out)[kLaneColumns]) {
  const uint32_t words[4] = {vectors->x, vectors->y, vectors->z, vectors->w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

template <>
__device__ __forceinline__ void widen8<float>(const uint4* vectors, float (&out)[kLaneColumns]) {
#pragma unroll
  for (int v = 0; v < 2; ++v) {
    out[4 * v] = __uint_as_float(vectors[v].x);
    out[4 * v + 1] = __uint_as_float(vectors[v].y);
    out[4 * v + 2] = __uint_as_float(vectors[v].z);
    out[4 * v + 3] = __uint_as_float(vectors[v].w);
  }
}

/// Adds the upper half of kCount values to the lower one across lanes that differ in `bit`: a lane
/// with the bit keeps the upper half of the values, the other the lower.
template <int kCount>
__device__ __forceinline__ void exchange_add(const float (&in)[kCount], float (&out)[kCount / 2],
                                             int lane, int bit) {
  const bool upper = (lane & bit) != 0;
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float keep = upper ? in[i + kCount / 2] : in[i];
    const float send = upper ? in[i] : in[i + kCount / 2];
    out[i] = __fadd_rn(keep, __shfl_xor_sync(0xffffffffu, send, bit));
  }
}

/// The steps s = 128 .. 8 of the trees, from lane bit kBit on: each adds across lanes and halves what
/// a lane holds, as long as that is more than one value.
template <int kBit, int kCount, int kLeft>
__device__ __forceinline__ void add_lanes(const float (&in)[kCount], float (&out)[kLeft], int lane) {
  if constexpr (kBit == 0) {
#pragma unroll
    for (int i = 0; i < kLeft; ++i) out[i] = in[i];
  } else if constexpr (kCount > 1) {
    float half[kCount / 2];
    exchange_add(in, half, lane, kBit);
    add_lanes<kBit / 2>(half, out, lane);
  } else {
    const float sum[1] = {__fadd_rn(in[0], __shfl_xor_sync(0xffffffffu, in[0], kBit))};
    add_lanes<kBit / 2>(sum, out, lane);
  }
}

/// The trees over the 256 partial sums of kSums sums (1, 2, 4, 8 or 16) at once. Lane t gets sum
/// t * kSums / 32. Called by whole warps. After the steps across lanes the highest lane bits number the
/// sum and those after them the element; s = 4, 2, 1 add across these, and in the lane where there are
/// no bits left.
template <int kSums>
__device__ __forceinline__ float tree_sums_of_warp(const float (&partials)[kSums * kLaneColumns],
                                                   int lane) {
  constexpr int kLeft = kSums * kLaneColumns > 32 ? kSums * kLaneColumns / 32 : 1;
  float left[kLeft];
  add_lanes<16>(partials, left, lane);
  constexpr int kElementBit = 16 / kSums;
#pragma unroll
  for (const int bit : {kElementBit, kElementBit / 2, kElementBit / 4}) {
#pragma unroll
    for (int i = 0; i < kLeft && bit > 0; ++i) {
      left[i] = __fadd_rn(left[i], __shfl_xor_sync(0xffffffffu, left[i], bit));
    }
  }
#pragma unroll
  for (int s = kLeft / 2; s > 0; s /= 2) {
#pragma unroll
    for (int i = 0; i < s; ++i) left[i] = __fadd_rn(left[i], left[i + s]);
  }
  return left[0];
}

/// One tree; every lane gets the result.
__device__ __forceinline__ float tree_sum_of_warp(const float (&partials)[kLaneColumns], int lane) {
  return tree_sums_of_warp<1>(partials, lane);
}

}  // namespace headrace::cuda
