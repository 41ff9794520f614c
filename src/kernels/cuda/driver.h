#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/cuda_check.h"

namespace headrace::cuda {

/// Finds a function of the driver, which is not linked: the library also loads where there is none.
/// `version` is the driver's that brought it. False if it has none.
template <typename Function>
bool find_driver_function(Function& function, const char* name, unsigned version) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableDefault, &status),
        "asking for the driver's functions");
  if (status != cudaDriverEntryPointSuccess) return false;
  function = reinterpret_cast<Function>(found);
  return true;
}

}  // namespace headrace::cuda
