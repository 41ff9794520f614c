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
#include "stream/stream_counters.h"
#include "stream/tile_check.h"

namespace headrace {

/// The fixed staging area through which streamed tiles pass. Slots are filled in the order of
/// PassOrder, leased in the same order, and refilled as soon as they are given back. One thread,
/// the consumer, calls it; a second one, its own, waits for the link, checks tiles and marks slots
/// ready.
class Ring : public LeaseOwner {
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
  Ring(const Parts& parts, Buffer memory);
  /// Waits for reads in flight.
  ~Ring() override;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Starts the thread and the first reads. Call once.
  void begin();
  void begin_pass(bool with_logits);
  /// The next request of the pass: waits until its bytes are there and good. Throws what failed,
  /// now and ever after. REQUIRES: `request` comes next; no lease but the last few is held.
  Lease take(uint32_t request);
  /// Gives up what is left of the pass, waiting for its reads in flight. REQUIRES: no lease is
  /// held.
  void abandon_pass();
  void release(uint64_t ticket) override;

  /// Waits until no read is in flight: the ring is full, or nothing further is known to come.
  void wait_idle();

  /// Counters that the ring keeps; the others are zero.
  StreamCounters counters();

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
