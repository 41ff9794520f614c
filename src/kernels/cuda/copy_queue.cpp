#include "kernels/cuda/copy_queue.h"

#include "kernels/cuda/cuda_check.h"

namespace headrace::cuda {

CudaCopyQueue::CudaCopyQueue(Queue& ops, int slots)
    : ops_(ops), slots_(static_cast<size_t>(slots)) {
  check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "creating the copy stream");
  for (Slot& slot : slots_) {
    check(cudaEventCreateWithFlags(&slot.filled, cudaEventDisableTiming), "creating an event");
    check(cudaEventCreateWithFlags(&slot.freed, cudaEventDisableTiming), "creating an event");
  }
}

CudaCopyQueue::~CudaCopyQueue() {
  cudaStreamSynchronize(copies_);
  for (const Slot& slot : slots_) {
    cudaEventDestroy(slot.filled);
    cudaEventDestroy(slot.freed);
  }
  cudaStreamDestroy(copies_);
}

void CudaCopyQueue::fill(int slot, std::byte* to, std::span<const std::byte> from) {
  Slot& place = at(slot);
  if (place.was_freed) check(cudaStreamWaitEvent(copies_, place.freed, 0), "ordering a copy");
  check(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, copies_),
        "copying weights to the device");
  check(cudaEventRecord(place.filled, copies_), "ordering a copy");
}

void CudaCopyQueue::await(int slot) {
  check(cudaStreamWaitEvent(ops_.interrupted(), at(slot).filled, 0), "waiting for a copy");
}

void CudaCopyQueue::free(int slot) {
  at(slot).was_freed = true;
  check(cudaEventRecord(at(slot).freed, ops_.interrupted()), "ordering a copy");
}

void CudaCopyQueue::wait(int slot) {
  check(cudaEventSynchronize(at(slot).filled), "copying weights to the device");
}

void CudaCopyQueue::synchronize() {
  check(cudaStreamSynchronize(copies_), "copying weights to the device");
}

}  // namespace headrace::cuda
