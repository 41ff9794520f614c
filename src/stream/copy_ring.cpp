#include "stream/copy_ring.h"

#include <algorithm>

#include "base/error.h"
#include "stream/weight_runs.h"

namespace headrace {

CopyRing::CopyRing(const Parts& parts, std::unique_ptr<CopyQueue> queue, Buffer memory)
    : parts_(parts),
      groups_(parts.manifest.groups()),
      memory_(std::move(memory)),
      queue_(std::move(queue)),
      order_(PassOrder::of(parts.plan)),
      slots_(static_cast<size_t>(parts.plan.ring_requests)) {
  HR_CHECK(!slots_.empty() && memory_.size_bytes() >= parts.plan.ring_bytes());
  size_t most_tiles = 0;
  for (const TransferRequest& request : parts.plan.requests) {
    most_tiles = std::max<size_t>(most_tiles, request.tile_count);
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].memory = memory_.data() + i * parts.plan.ring_slot_bytes;
    slots_[i].runs.reserve(most_tiles);
  }
}

CopyRing::~CopyRing() = default;

void CopyRing::begin() { refill(); }

void CopyRing::begin_pass(const PassUse& use, bool with_logits) {
  use_ = &use;
  order_.begin_pass(use, with_logits);
  refill();
}

Lease CopyRing::take(uint32_t request) {
  Slot& slot = slot_at(taken_);
  HR_CHECK(taken_ < fetched_ && slot.request == request);
  queue_->await(slot_number(taken_));
  const TransferRequest& transfer = slot.transfer;
  ++counters_.requests;
  counters_.payload_bytes += transfer.payload_bytes;
  counters_.leased_bytes += transfer.size_bytes;
  counters_.padding_bytes += transfer.size_bytes - transfer.payload_bytes;
  return Lease(this, taken_++, slot.runs);
}

void CopyRing::release(uint64_t ticket) {
  HR_CHECK(ticket == freed_);  // leases are given back in order
  queue_->free(slot_number(ticket));
  ++freed_;
  refill();
}

void CopyRing::abandon_pass() {
  for (; taken_ < fetched_ && slot_at(taken_).pass < order_.passes_begun(); ++taken_, ++freed_) {
    counters_.dropped_bytes += slot_at(taken_).transfer.size_bytes;
    queue_->free(slot_number(taken_));
  }
  order_.skip_to_next_pass();
  refill();
}

void CopyRing::wait_idle() { queue_->synchronize(); }

/// Enqueues copies into all free slots, as far as it is known what comes next.
void CopyRing::refill() {
  while (fetched_ - freed_ < slots_.size() && order_.has_next()) {
    Slot& slot = slot_at(fetched_);
    slot.request = order_.request();
    slot.pass = order_.pass();
    // What is common to all uses comes before it is known which one the pass will have.
    slot.transfer = slot.pass < order_.passes_begun() ? use_->requests[slot.request]
                                                      : parts_.plan.requests[slot.request];
    order_.advance();
    const TransferRequest& request = slot.transfer;
    slot.runs.clear();
    for (uint32_t t = request.first_tile; t < request.first_tile + request.tile_count; ++t) {
      append_run(parts_.manifest.tiles[t], groups_[request.group].first_matrix,
                 slot.memory + (parts_.manifest.tiles[t].offset - request.offset), slot.runs);
    }
    queue_->fill(slot_number(fetched_), slot.memory,
                 parts_.weights.request(request.home).first(request.size_bytes));
    counters_.read_bytes += request.size_bytes;
    trace_copy(slot);
    ++fetched_;
  }
}

/// When the copy was enqueued, and its bytes; when it ran is the device's own business.
void CopyRing::trace_copy(const Slot& slot) const {
  if (!parts_.trace.enabled()) return;
  const int64_t now_ns = parts_.clock.now_ns();
  TraceEvent event{.name = "copy", .category = "stream", .begin_ns = now_ns, .end_ns = now_ns};
  describe_request(event, slot.transfer, slot.request, slot.pass);
  parts_.trace.record(event);
}

}  // namespace headrace
