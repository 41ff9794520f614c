#pragma once

/// Copies from memory to shared memory that go on while the thread does other things, in groups.
namespace headrace::cuda {

inline constexpr int kVectorBytes = 16;

/// Begins to copy 16 bytes to an address in shared memory, or zeros if `present` is false.
__device__ __forceinline__ void copy_vector(unsigned to, const void* from, bool present = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(present ? kVectorBytes : 0)
               : "memory");
}
__device__ __forceinline__ void copy_vector(void* to, const void* from, bool present = true) {
  copy_vector(static_cast<unsigned>(__cvta_generic_to_shared(to)), from, present);
}
__device__ __forceinline__ void end_copies_of_stage() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until all but the last `kLeft` groups of the thread's copies have arrived.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace headrace::cuda
