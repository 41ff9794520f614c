#pragma once

#include <algorithm>

#include "kernels/cuda/canonical_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/numerics.h"

/// What the kernels of the canonical product share.
namespace headrace::cuda {

inline constexpr int kChunk = static_cast<int>(numerics::kPartials);  // columns of a warp at a time
inline constexpr int kMostLaunchTokens = 8;                           // token rows of a launch
static_assert(kChunk == 32 * kLaneColumns);

struct DeviceLimits {
  int multiprocessors = 0;
  int shared_bytes = 0;  // that a block may use
};

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

/// What every Launch takes of a matmul: runs, x and k.
template <typename Launch>
Launch launch_of(const CanonicalMatmul& matmul) {
  Launch launch = {};
  std::copy(matmul.runs, matmul.runs + matmul.run_count, launch.runs);
  launch.run_count = matmul.run_count;
  launch.x = matmul.x;
  launch.x_stride_bytes = static_cast<int64_t>(matmul.x_stride_bytes);
  launch.tokens = static_cast<int32_t>(std::min<int64_t>(matmul.tokens, kMostLaunchTokens));
  launch.k = static_cast<int32_t>(matmul.k);
  return launch;
}

/// Sets first_group: run i takes the groups of `rows` rows [first_group[i], first_group[i + 1]).
/// Returns how many groups there are.
template <typename Launch>
int number_groups(Launch& launch, int rows) {
  launch.first_group[0] = 0;
  for (int i = 0; i < launch.run_count; ++i) {
    launch.first_group[i + 1] = launch.first_group[i] + (launch.runs[i].rows + rows - 1) / rows;
  }
  return launch.first_group[launch.run_count];
}

/// The product by the kernel that copies weights through shared memory, for up to kMostLaunchTokens
/// token rows; false for devices and shapes that it is not made for, with nothing done. A norm that is
/// not null is part of the launch.
bool canonical_matmul_bulk(const CanonicalMatmul& matmul, const NormRows* norm,
                           const DeviceLimits& limits, Queue& queue);

}  // namespace headrace::cuda
