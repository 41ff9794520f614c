#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/numerics.h"

/// Arithmetic of docs/numerics.md on the device. Products and sums are written with the intrinsics
/// that name their rounding, so that the compiler fuses nothing.
namespace headrace::cuda {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

/// Elements that are read or written at once, aligned as a whole.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T)) Packed {
  T values[kCount];
};

/// Rounds to nearest, ties to even.
template <typename T>
__device__ __forceinline__ T round_to(float value);
template <>
__device__ __forceinline__ float round_to<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __half round_to<__half>(float value) {
  return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 round_to<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <typename T, int kCount>
__device__ __forceinline__ Packed<T, kCount> rounded(const Packed<float, kCount>& numbers) {
  Packed<T, kCount> result;
#pragma unroll
  for (int i = 0; i < kCount; ++i) result.values[i] = round_to<T>(numbers.values[i]);
  return result;
}

/// 2^n for n of a normal number.
__device__ __forceinline__ float power_of_two(int n) { return __int_as_float((n + 127) << 23); }

__device__ __forceinline__ float canonical_exp(float x) {
  namespace n = numerics;
  const float bounded = fminf(fmaxf(x, n::kExpLowest), n::kExpHighest);  // a number, always
  const float q = __fmaf_rn(bounded, n::kLog2E, n::kRoundMagic);
  const float whole = __fsub_rn(q, n::kRoundMagic);
  const float r = __fmaf_rn(whole, -n::kLn2Low, __fmaf_rn(whole, -n::kLn2High, bounded));
  float p = n::kExpC6;
  p = __fmaf_rn(p, r, n::kExpC5);
  p = __fmaf_rn(p, r, n::kExpC4);
  p = __fmaf_rn(p, r, n::kExpC3);
  p = __fmaf_rn(p, r, n::kExpC2);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  const int exponent = __float_as_int(q) - __float_as_int(n::kRoundMagic);
  const int half = exponent >> 1;  // rounds down
  const float result = __fmul_rn(__fmul_rn(p, power_of_two(half)), power_of_two(exponent - half));
  return isnan(x) ? x : result;
}

/// Where exp_of_normal() begins; it ends where this is negated. Between them results are normal
/// numbers.
inline constexpr float kExpNormalLowest = -86.0f;

/// canonical_exp(x) for x in [kExpNormalLowest, -kExpNormalLowest], in half of the instructions:
/// the power of two is added to the exponent.
__device__ __forceinline__ float exp_of_normal(float x) {
  namespace n = numerics;
  const float q = __fmaf_rn(x, n::kLog2E, n::kRoundMagic);
  const float whole = __fsub_rn(q, n::kRoundMagic);
  const float r = __fmaf_rn(whole, -n::kLn2Low, __fmaf_rn(whole, -n::kLn2High, x));
  float p = __fmaf_rn(n::kExpC6, r, n::kExpC5);
  p = __fmaf_rn(p, r, n::kExpC4);
  p = __fmaf_rn(p, r, n::kExpC3);
  p = __fmaf_rn(p, r, n::kExpC2);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  return __int_as_float(__float_as_int(p) + (__float_as_int(q) << 23));  // kRoundMagic's bits go
}

/// Sizes of numbers that Divisor divides, and divides by: nothing on the way overflows or is
/// denormal.
inline constexpr float kDivisibleLowest = 0x1p-60f;
inline constexpr float kDivisibleHighest = 0x1p60f;
__device__ __forceinline__ bool divisible(float value) {  // no NaN either
  return fabsf(value) >= kDivisibleLowest && fabsf(value) <= kDivisibleHighest;
}

/// __fdiv_rn() without its branches, so that quotients overlap: the steps that it takes itself
/// where numbers are of ordinary size (Markstein 1990: an estimate, corrected by its exact
/// remainder). All numbers are divisible().
class Divisor {
 public:
  __device__ __forceinline__ explicit Divisor(float value) : value_(value) {
    float estimate;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(estimate) : "f"(value));
    reciprocal_ = __fmaf_rn(__fmaf_rn(-value, estimate, 1.0f), estimate, estimate);
  }
  /// dividend / value, rounded to nearest.
  __device__ __forceinline__ float quotient(float dividend) const {
    const float estimate = __fmul_rn(dividend, reciprocal_);
    return __fmaf_rn(__fmaf_rn(-value_, estimate, dividend), reciprocal_, estimate);
  }

 private:
  float value_;
  float reciprocal_;
};

/// The larger of two, of which a NaN is never the larger.
__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

/// Adds the lanes' values of a warp over `width` lanes (a power of two) as a tree: s = width / 2,
/// ..., 1. Lane 0 of each group gets the sum.
template <int kWidth>
__device__ __forceinline__ float tree_sum(float value) {
#pragma unroll
  for (int s = kWidth / 2; s > 0; s /= 2) {
    value = __fadd_rn(value, __shfl_down_sync(0xffffffffu, value, s, kWidth));
  }
  return value;
}

/// Calls body(T{}) with the type that stands for `dtype`. T is deduced in the body as decltype.
#define HR_DISPATCH_DTYPE(dtype, T, ...) \
  switch (dtype) {                       \
    case ::headrace::DType::kFloat32: {  \
      using T = float;                   \
      __VA_ARGS__;                       \
      break;                             \
    }                                    \
    case ::headrace::DType::kFloat16: {  \
      using T = __half;                  \
      __VA_ARGS__;                       \
      break;                             \
    }                                    \
    case ::headrace::DType::kBFloat16: { \
      using T = __nv_bfloat16;           \
      __VA_ARGS__;                       \
      break;                             \
    }                                    \
  }

}  // namespace headrace::cuda
