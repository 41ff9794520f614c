#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "codec/codec_id.h"

namespace headrace {

/// Consecutive whole rows of one matrix in fast memory, ready to be multiplied. Row r (counted from
/// row_begin) starts at data + r * row_stride_bytes; 64 bytes after the last row are readable.
/// Coded rows are laid out as RowLayout::of(codec, dtype, k, row_stride_bytes) says.
struct WeightRun {
  const std::byte* data = nullptr;
  uint32_t matrix = 0;  // which matrix of the group
  int64_t row_begin = 0;
  int64_t rows = 0;
  size_t row_stride_bytes = 0;
  CodecId codec = CodecId::kRaw;
};

class LeaseOwner {
 public:
  virtual ~LeaseOwner() = default;
  virtual void release(uint64_t ticket) = 0;
};

/// Move-only handle on runs that are in fast memory. Their bytes stay until the lease is released
/// or destroyed, which lets the ring reuse the space: in the order in which leases were taken.
class Lease {
 public:
  Lease() = default;
  Lease(LeaseOwner* owner, uint64_t ticket, std::span<const WeightRun> runs)
      : owner_(owner), ticket_(ticket), runs_(runs) {}
  ~Lease() { release(); }
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept {
    if (this != &other) {
      release();
      owner_ = std::exchange(other.owner_, nullptr);
      ticket_ = other.ticket_;
      runs_ = std::exchange(other.runs_, {});
    }
    return *this;
  }

  std::span<const WeightRun> runs() const { return runs_; }
  void release() {
    if (LeaseOwner* owner = std::exchange(owner_, nullptr)) owner->release(ticket_);
    runs_ = {};
  }

 private:
  LeaseOwner* owner_ = nullptr;  // null: nothing to give back (resident runs)
  uint64_t ticket_ = 0;
  std::span<const WeightRun> runs_;
};

/// Brings the weights of one matrix group into fast memory, piece by piece: resident rows first,
/// then streamed ones as they arrive. A group may be larger than the ring, so a consumer holds few
/// leases at a time, unless can_hold_rest() says otherwise. Used by one thread.
class WeightFeed {
 public:
  virtual ~WeightFeed() = default;
  /// Moves the next piece into `lease`; false when the whole group has been handed out. Blocks
  /// until the bytes are there. A failed read or checksum is Error{kIo} or {kCorrupt}.
  virtual bool next(Lease& lease) = 0;
  /// Whether all pieces that are left can be held at the same time, and what comes next does not
  /// suffer.
  virtual bool can_hold_rest() const { return false; }
  /// Rows that stay in host memory and that the host multiplies while a device computes the others
  /// (kernels/host_workers.h). They stay until the pass has ended.
  virtual std::span<const WeightRun> host_runs() const { return {}; }
};

}  // namespace headrace
