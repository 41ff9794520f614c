#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/trace.h"
#include "device/buffer.h"
#include "device/copy_queue.h"
#include "engine/manifest.h"
#include "plan/plan.h"
#include "stream/host_weights.h"
#include "stream/pass_order.h"
#include "stream/ring.h"

namespace headrace {

/// A ring that a copy queue fills from host memory. Copies and ops are ordered against each other
/// on the device: the host only enqueues, whole passes ahead if it is quick, and never waits for
/// bytes.
class CopyRing : public Ring {
 public:
  struct Parts {
    const Manifest& manifest;
    const Plan& plan;
    const HostWeights& weights;
    const Clock& clock;
    Trace& trace;
  };

  /// `memory` holds plan.ring_bytes(). REQUIRES: the plan streams something.
  CopyRing(const Parts& parts, std::unique_ptr<CopyQueue> queue, Buffer memory);
  ~CopyRing() override;
  CopyRing(const CopyRing&) = delete;
  CopyRing& operator=(const CopyRing&) = delete;

  void begin() override;
  void begin_pass(const PassUse& use, bool with_logits) override;
  Lease take(uint32_t request) override;
  void abandon_pass() override;
  void release(uint64_t ticket) override;
  void wait_idle() override;
  StreamCounters counters() override { return counters_; }

 private:
  struct Slot {
    std::byte* memory = nullptr;
    uint32_t request = 0;  // of the pass's use, and what it says
    TransferRequest transfer;
    uint64_t pass = 0;
    std::vector<WeightRun> runs;
  };

  void refill();
  void trace_copy(const Slot& slot) const;
  Slot& slot_at(uint64_t sequence) { return slots_[sequence % slots_.size()]; }
  int slot_number(uint64_t sequence) const { return static_cast<int>(sequence % slots_.size()); }

  const Parts parts_;
  const std::vector<MatrixGroup> groups_;
  const Buffer memory_;
  const std::unique_ptr<CopyQueue> queue_;  // goes before the memory that it copies to
  PassOrder order_;
  const PassUse* use_ = nullptr;  // of the pass begun last
  std::vector<Slot> slots_;       // sequence number s uses slot s % size
  uint64_t fetched_ = 0;          // requests whose copy is enqueued
  uint64_t taken_ = 0;            // requests leased or dropped
  uint64_t freed_ = 0;            // of those, given back
  StreamCounters counters_;
};

}  // namespace headrace
