#pragma once

#include <cstddef>
#include <cstdint>
#include <future>
#include <span>
#include <vector>

#include "base/context.h"
#include "device/buffer.h"
#include "engine/manifest.h"
#include "kernels/backend.h"
#include "plan/plan.h"
#include "stream/link.h"
#include "stream/tile_check.h"

namespace headrace {

/// The streamed tiles' home in host memory: request after request as a pass uses them, pinned for
/// the backend's copies. Immutable once loaded.
class HostWeights {
 public:
  /// Reserves the memory; pages are taken as they are filled. `plan` and `backend` must outlive it.
  HostWeights(const Plan& plan, Backend& backend);
  ~HostWeights();
  HostWeights(const HostWeights&) = delete;
  HostWeights& operator=(const HostWeights&) = delete;

  /// Reads and checks all requests of the plan (stream/bulk_read.h), and pins each stretch of
  /// memory as soon as it is full, while others are being read. Returns the bytes read.
  uint64_t load(Link& link, TileCheck& check, Context& context);

  std::span<const std::byte> request(uint32_t index) const;
  /// Where a tile lies that is not resident.
  const std::byte* tile(const Manifest& manifest, uint32_t tile) const;
  uint64_t size_bytes() const { return memory_.size_bytes(); }

 private:
  /// Whole requests that are pinned together, so that no copy crosses the border of two pinned
  /// stretches.
  struct Stretch {
    std::span<std::byte> bytes;
    uint32_t requests_left = 0;  // to arrive
    bool pinned = false;
  };
  void arrived(uint32_t request);
  void finish_pinning();

  const Plan& plan_;
  Backend& backend_;
  const Buffer memory_;
  std::vector<uint64_t> offsets_;     // by request
  std::vector<uint32_t> stretch_of_;  // by request
  std::vector<Stretch> stretches_;
  std::future<void> pinning_;  // of one stretch, by a thread of its own
};

}  // namespace headrace
