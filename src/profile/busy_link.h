#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "device/buffer.h"
#include "device/copy_queue.h"
#include "kernels/backend.h"
#include "stream/pinned_buffer.h"

namespace headrace {

/// Keeps the link of a backend with memory of its own busy while it exists, and counts what it
/// carries. Its thread stays on the processor that host threads leave to others. Borrows both; no
/// other thread uses the backend meanwhile.
class BusyLink {
 public:
  BusyLink(Backend& backend, const Clock& clock);
  ~BusyLink();
  BusyLink(const BusyLink&) = delete;
  BusyLink& operator=(const BusyLink&) = delete;

  /// 1e9 bytes/s since it was made; 0 before the first copies have ended.
  double gbps() const;

 private:
  void copy();

  const Clock& clock_;
  const Buffer to_;
  const PinnedBuffer from_;
  const std::unique_ptr<CopyQueue> queue_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<int64_t> busy_ns_{0};
  std::thread thread_;
};

}  // namespace headrace
