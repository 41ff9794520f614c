#pragma once

#include "kernels/cuda/canonical_sum.cuh"
#include "kernels/cuda/matmul_launch.cuh"
#include "kernels/numerics.h"

/// What the kernels of the canonical product share.
namespace headrace::cuda {

inline constexpr int kChunk = static_cast<int>(numerics::kPartials);  // columns of a warp at a time
inline constexpr int kMostLaunchTokens = 8;                           // token rows of a launch
static_assert(kChunk == 32 * kLaneColumns);

/// A plain load, for what an earlier kernel wrote: it must not go through the read-only path.
__device__ __forceinline__ uint4 load_written(const void* address) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

__device__ __forceinline__ void store_product(const MatmulRun& run, int row, int token,
                                              float value) {
  if (run.bias != nullptr) value = __fadd_rn(value, run.bias[row]);
  float& out = run.out[token * run.out_stride + row];
  out = run.accumulate != 0 ? __fadd_rn(out, value) : value;
}

/// The product by the kernel that copies weights through shared memory, for up to kMostLaunchTokens
/// token rows; false for devices and shapes that it is not made for, with nothing done. A norm that is
/// not null is part of the launch.
bool canonical_matmul_bulk(const MatmulRuns& matmul, const NormRows* norm, Queue& queue);

}  // namespace headrace::cuda
