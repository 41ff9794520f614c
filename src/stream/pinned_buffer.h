#pragma once

#include <span>
#include <utility>

#include "device/buffer.h"
#include "kernels/backend.h"

namespace headrace {

/// Host memory that a backend's copies read: pinned as a whole while it lives. Neither copied nor
/// moved. `backend` must outlive it.
class PinnedBuffer {
 public:
  PinnedBuffer(Backend& backend, Buffer memory) : backend_(backend), memory_(std::move(memory)) {
    if (memory_.size_bytes() > 0) backend_.pin(memory_.bytes());
  }
  ~PinnedBuffer() {
    if (memory_.size_bytes() > 0) backend_.unpin(memory_.bytes());
  }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::span<std::byte> bytes() const { return memory_.bytes(); }

 private:
  Backend& backend_;
  const Buffer memory_;
};

}  // namespace headrace
