#pragma once

#include <cstdint>

#include "base/trace.h"
#include "kernels/weights.h"
#include "plan/pass_use.h"
#include "stream/stream_counters.h"

namespace headrace {

/// The fixed staging area in fast memory through which streamed tiles pass. Slots are filled in the
/// order of PassOrder, leased in the same order, and refilled as soon as they are given back. Used
/// by one thread.
class Ring : public LeaseOwner {
 public:
  /// Starts the first transfers. Call once.
  virtual void begin() = 0;
  /// `use` stays as it is until the next pass begins.
  virtual void begin_pass(const PassUse& use, bool with_logits) = 0;
  /// The next request of the pass, ready for ops that are enqueued from now on. Throws what failed,
  /// now and ever after. REQUIRES: `request` comes next; no lease but the last few is held.
  virtual Lease take(uint32_t request) = 0;
  /// Gives up what is left of the pass. REQUIRES: no lease is held.
  virtual void abandon_pass() = 0;
  /// Waits until nothing is in flight: the ring is full, or nothing further is known to come.
  virtual void wait_idle() = 0;
  /// Counters that the ring keeps; the others are zero.
  virtual StreamCounters counters() = 0;
};

/// Adds what a trace says of a request of a pass: bytes, place in the file, numbers.
void describe_request(TraceEvent& event, const TransferRequest& transfer, uint32_t request,
                      uint64_t pass);

}  // namespace headrace
