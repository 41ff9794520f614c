#pragma once

namespace headrace::cuda {

/// Asks for `bytes` bytes, whole 16-byte vectors, to be brought to the L2 cache; returns at once. L2
/// is where all writes end, so what is written later is not missed. Does nothing before sm_90.
__device__ __forceinline__ void prefetch(const void* address, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(address), "r"(bytes));
#endif
}

}  // namespace headrace::cuda
