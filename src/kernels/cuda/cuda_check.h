#pragma once

#include <cuda_runtime_api.h>

#include "base/error.h"

namespace headrace::cuda {

/// Throws Error{kDevice} (kOutOfMemory, if that is what it was) that names the action.
inline void check(cudaError_t result, const char* action) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // forget it, unless it is one that stays
  const ErrorCode code =
      result == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
  fail(code, "[cuda] {} failed: {}", action, cudaGetErrorString(result));
}

}  // namespace headrace::cuda
