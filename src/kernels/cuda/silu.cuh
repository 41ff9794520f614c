#pragma once

#include "kernels/cuda/device_math.cuh"

/// silu(a) * b (docs/numerics.md), some at a time.
namespace headrace::cuda {

/// Sizes of z for which silu(z) can be had without branches: then 1 + exp(-z) is divisible(), too.
__device__ __forceinline__ bool silu_is_plain(float z) {  // no NaN either
  constexpr float kHighest = 40.0f;
  return fabsf(z) >= kDivisibleLowest && fabsf(z) <= kHighest;
}

/// Of a thread's own elements: products[i] = silu(a[i]) * b[i].
template <int kCount>
__device__ __forceinline__ Packed<float, kCount> silu_products(const float (&a)[kCount],
                                                               const float (&b)[kCount]) {
  bool plain = true;
#pragma unroll
  for (int i = 0; i < kCount; ++i) plain &= silu_is_plain(a[i]);
  Packed<float, kCount> products;
  if (plain) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Divisor divisor(__fadd_rn(1.0f, exp_of_normal(-a[i])));
      products.values[i] = __fmul_rn(divisor.quotient(a[i]), b[i]);
    }
    return products;
  }
  float left[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    left[i] = a[i];
    products.values[i] = b[i];
  }
  // Short code, as it is rarely run: all elements pass the first place.
#pragma unroll 1
  for (int turn = 0; turn < kCount; ++turn) {
    const float silu = __fdiv_rn(left[0], __fadd_rn(1.0f, canonical_exp(-left[0])));
    const float product = __fmul_rn(silu, products.values[0]);
#pragma unroll
    for (int i = 0; i + 1 < kCount; ++i) {
      left[i] = left[i + 1];
      products.values[i] = products.values[i + 1];
    }
    products.values[kCount - 1] = product;
  }
  return products;
}

}  // namespace headrace::cuda
