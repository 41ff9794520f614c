#pragma once

#include <cstddef>
#include <span>

#include <cuda_runtime_api.h>

#include "kernels/backend.h"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {

/// Pinned host memory through which small uploads go, so that the caller's bytes are free although
/// the copy is only enqueued. Two halves take turns; a half is used again when the copies out of it
/// are done. What a pass begins with is several short uploads: those wait for send(), which
/// enqueues one kernel for all of them. Used by one thread.
class Staging {
 public:
  explicit Staging(Queue& queue);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void upload(std::byte* to, std::span<const std::byte> from);
  /// Backend::upload_rows(), whose rows are written right here: while some are copied, the next
  /// ones. It may wait for send().
  void upload_rows(std::byte* to, size_t row_bytes, int64_t rows, const Backend::RowWriter& write);
  /// Enqueues the copies that wait: before whatever reads what they bring.
  void send();

 private:
  static constexpr size_t kHalfBytes = size_t{8} << 20;  // threads fill it in some 100 us

  std::span<std::byte> take(size_t size_bytes);
  void copy(std::byte* to, std::span<const std::byte> staged);
  void copy_later(std::byte* to, std::span<const std::byte> staged);
  bool waits_for(const std::byte* place, size_t size_bytes) const;

  Queue& queue_;
  StagedCopies waiting_;
  std::byte* memory_ = nullptr;  // two halves
  cudaEvent_t done_[2] = {};
  int half_ = 0;
  size_t used_ = 0;
};

}  // namespace headrace::cuda
