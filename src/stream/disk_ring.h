#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/trace.h"
#include "device/buffer.h"
#include "engine/manifest.h"
#include "kernels/weights.h"
#include "plan/plan.h"
#include "stream/link.h"
#include "stream/pass_order.h"
#include "stream/ring.h"
#include "stream/stream_counters.h"
#include "stream/tile_check.h"

namespace headrace {

/// A ring that a link fills from the engine file. A second thread, its own, waits for the link,
/// checks tiles and marks slots ready.
class DiskRing : public Ring {
 public:
  struct Parts {
    const Manifest& manifest;
    const Plan& plan;
    Link& link;
    TileCheck& check;
    const Clock& clock;
    Trace& trace;
  };

  /// `memory` holds plan.ring_bytes(). REQUIRES: the plan streams something.
  DiskRing(const Parts& parts, Buffer memory);
  /// Waits for reads in flight.
  ~DiskRing() override;
  DiskRing(const DiskRing&) = delete;
  DiskRing& operator=(const DiskRing&) = delete;

  void begin() override;
  /// REQUIRES: the use is stream_all(), the only one where the disk is the link.
  void begin_pass(const PassUse& use, bool with_logits) override;
  /// Waits until the bytes are there and good.
  Lease take(uint32_t request) override;
  void abandon_pass() override;
  void release(uint64_t ticket) override;
  void wait_idle() override;
  StreamCounters counters() override;

 private:
  enum class State : uint8_t { kFree, kReading, kChecking, kReady, kLeased };
  struct Slot {
    std::byte* memory = nullptr;
    State state = State::kFree;
    uint32_t request = 0;
    uint64_t pass = 0;
    int64_t begin_ns = 0;  // of the read, then of the lease
    uint32_t track = 0;
    std::vector<WeightRun> runs;
    std::optional<Error> failure;  // of the read, when kReady
  };

  void refill();
  bool start_next();
  void wait_for_link();
  void arrived(const Completion& completion);
  void fail_all(const Error& error);
  void account(int64_t now_ns);
  void set_state(Slot& slot, State state);
  void trace_slot(const Slot& slot, const char* name, int64_t end_ns);
  Slot& slot_at(uint64_t sequence) { return slots_[sequence % slots_.size()]; }

  const Parts parts_;
  const std::vector<MatrixGroup> groups_;
  const Buffer memory_;

  // Of the consumer alone.
  PassOrder order_;
  uint64_t fetched_ = 0;  // requests started so far
  uint64_t taken_ = 0;    // requests leased or dropped so far

  std::mutex mutex_;  // guards the states of slots, and all below but thread_
  std::condition_variable changed_;
  std::vector<Slot> slots_;  // sequence number s uses slot s % size
  std::optional<Error> failure_;
  StreamCounters counters_;
  int64_t accounted_ns_ = 0;
  int reading_ = 0;  // slots by state
  int free_ = 0;
  std::thread thread_;
};

}  // namespace headrace
