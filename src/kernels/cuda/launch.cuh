#pragma once

#include "kernels/cuda/launchers.h"

/// Overlap of a kernel with the one before it (programmatic dependent launch). A kernel may begin
/// while the last one runs; what it does before wait_for_previous() must not touch what earlier
/// kernels write. Every kernel
/// of ours calls both functions, each once per thread; cuBLASLt's begin when all before them ended.
namespace headrace::cuda {

/// Lets the next kernel of the queue begin as soon as every block has come here.
__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Returns when all kernels before this one have ended and their writes are visible.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Blocks of a cluster, along x; 0: a launch without clusters.
struct ClusterSize {
  unsigned blocks = 0;
};

/// The number of a thread's warp in its block. The compiler knows that it is the same in all threads of
/// the warp, and keeps what follows from it in registers of the warp: what copies in bulk takes its
/// operands from there.
__device__ __forceinline__ int warp_of_block() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
}

/// True in one thread of the warp, whose threads are all here; the compiler knows that it is one.
__device__ __forceinline__ bool elect_thread() {
#if __CUDA_ARCH__ >= 900
  uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred elected;\n"
      "elect.sync _|elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, elected;\n"
      "}"
      : "=r"(elected));
  return elected != 0;
#else
  return threadIdx.x % 32 == 0;
#endif
}

/// The largest cluster of a kernel without dynamic shared memory that the device can run.
template <typename... Parameters>
int most_cluster_blocks(void (*kernel)(Parameters...), dim3 block) {
  cudaLaunchConfig_t config = {};
  config.gridDim = 1;
  config.blockDim = block;
  int blocks = 0;
  if (cudaOccupancyMaxPotentialClusterSize(&blocks, kernel, &config) == cudaSuccess) return blocks;
  cudaGetLastError();
  return 0;
}

template <typename... Parameters, typename... Arguments>
void launch(Queue& queue, void (*kernel)(Parameters...), ClusterSize cluster, dim3 grid, dim3 block,
            size_t shared_bytes, Arguments... arguments) {
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = queue.stream;
  config.attrs = attributes;
  if (queue.may_overlap) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster.blocks > 0) {
    cudaLaunchAttribute& size = attributes[config.numAttrs++];
    size.id = cudaLaunchAttributeClusterDimension;
    size.val.clusterDim = {.x = cluster.blocks, .y = 1, .z = 1};
  }
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  queue.may_overlap = queue.can_overlap;
}

template <typename... Parameters, typename... Arguments>
void launch(Queue& queue, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            Arguments... arguments) {
  launch(queue, kernel, ClusterSize(), grid, block, shared_bytes, arguments...);
}

}  // namespace headrace::cuda
