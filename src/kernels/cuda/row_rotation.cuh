#pragma once

namespace headrace::cuda {

/// Rotation of one pair of a row (docs/numerics.md, rope): both products are rounded before the sum.
struct RowRotation {
  float cos;
  float sin;

  /// (x[i], x[i + head_dim / 2]), turned.
  __device__ __forceinline__ float2 of(float2 pair) const {
    return make_float2(__fsub_rn(__fmul_rn(pair.x, cos), __fmul_rn(pair.y, sin)),
                       __fadd_rn(__fmul_rn(pair.y, cos), __fmul_rn(pair.x, sin)));
  }
};

}  // namespace headrace::cuda
