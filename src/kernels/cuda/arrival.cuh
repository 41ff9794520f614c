#pragma once

#include <cstdint>

#include <cuda.h>

namespace headrace::cuda {

/// Says when bytes that were announced have arrived in the block's shared memory, or when threads
/// have. Its functions do nothing before sm_90, where no kernel that has one is launched.
struct Arrival {
  uint64_t barrier;

  /// A phase has `threads` arrivals; each expect() is one.
  __device__ __forceinline__ void init(int threads = 1) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
                 "r"(threads));
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  __device__ __forceinline__ void expect(int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
        "r"(bytes)
        : "memory");
#endif
  }
  __device__ __forceinline__ void copy(void* to, const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(&barrier))
        : "memory");
#endif
  }
  /// Begins to copy a box of a matrix (tensor_map.h): its first column and row are given.
  __device__ __forceinline__ void copy_box(void* to, const CUtensorMap& map, int column, int row) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
        : "memory");
#endif
  }
  /// The same to this place of every block of the cluster whose bit is set in `blocks`; each one's
  /// Arrival of this place counts what it gets.
  __device__ __forceinline__ void copy_box_to(uint16_t blocks, void* to, const CUtensorMap& map,
                                              int column, int row) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier)), "h"(blocks)
        : "memory");
#endif
  }
  /// Arrives at the cluster's block `block`, at its Arrival of this place. Says that reads are
  /// done; writes are not made visible.
  __device__ __forceinline__ void arrive_at(int block) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(block)
        : "memory");
#endif
  }
  /// Sends two floats to the same place in the cluster's block `block`, and counts 8 bytes at that
  /// block's Arrival of the same place.
  __device__ __forceinline__ void send(int block, float* to, float2 values) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .b32 there, barrier;\n"
        "mapa.shared::cluster.u32 there, %0, %2;\n"
        "mapa.shared::cluster.u32 barrier, %1, %2;\n"
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [there], {%3, %4}, "
        "[barrier];\n"
        "}" ::"r"(shared_address(to)),
        "r"(shared_address(&barrier)), "r"(block), "f"(values.x), "f"(values.y)
        : "memory");
#endif
  }
  /// wait() for what other blocks sent.
  __device__ __forceinline__ void wait_for_cluster(int phase) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(phase)
        : "memory");
#endif
  }
  __device__ __forceinline__ void wait(int phase) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(phase)
        : "memory");
#endif
  }

#if __CUDA_ARCH__ >= 900
  static __device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
  }
#endif
};

}  // namespace headrace::cuda
