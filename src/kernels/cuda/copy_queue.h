#pragma once

#include <vector>

#include <cuda_runtime_api.h>

#include "device/copy_queue.h"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {

/// Copies on a stream of their own; events guard the slots against the ops' stream. More streams
/// never copied faster.
class CudaCopyQueue : public CopyQueue {
 public:
  /// `ops` is what ops are enqueued on; it outlives this object.
  CudaCopyQueue(Queue& ops, int slots);
  ~CudaCopyQueue() override;
  CudaCopyQueue(const CudaCopyQueue&) = delete;
  CudaCopyQueue& operator=(const CudaCopyQueue&) = delete;

  void fill(int slot, std::byte* to, std::span<const std::byte> from) override;
  void await(int slot) override;
  void free(int slot) override;
  void wait(int slot) override;
  void synchronize() override;

 private:
  struct Slot {
    cudaEvent_t filled = nullptr;
    cudaEvent_t freed = nullptr;
    bool was_freed = false;
  };
  Slot& at(int slot) { return slots_[static_cast<size_t>(slot)]; }

  Queue& ops_;
  cudaStream_t copies_ = nullptr;
  std::vector<Slot> slots_;
};

}  // namespace headrace::cuda
