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
    __half2_raw pair;
    pair.x = static_cast<unsigned short>(words[i] & 0xffffu);
    pair.y = static_cast<unsigned short>(words[i] >> 16);
    const float2 wide = __half22float2(pair);
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

/// The tree over all 256 partial sums; every lane gets the result. Called by whole warps. The steps
/// s = 128, 64, 32 add across lanes, and each halves what a lane holds, so that afterwards lane bits
/// 16, 8 and 4 number the element; s = 16 and 8 add across lanes, and s = 4, 2, 1 across elements.
__device__ __forceinline__ float tree_sum_of_warp(const float (&partials)[kLaneColumns], int lane) {
  float four[4];
  float two[2];
  float one[1];
  exchange_add(partials, four, lane, 16);
  exchange_add(four, two, lane, 8);
  exchange_add(two, one, lane, 4);
  float sum = one[0];
#pragma unroll
  for (const int bit : {2, 1, 16, 8, 4}) {
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, bit));
  }
  return sum;
}

}  // namespace headrace::cuda
