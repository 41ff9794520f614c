#include "stream/disk_ring.h"

#include <algorithm>
#include <array>

#include "stream/weight_runs.h"

namespace headrace {

DiskRing::DiskRing(const Parts& parts, Buffer memory)
    : parts_(parts),
      groups_(parts.manifest.groups()),
      memory_(std::move(memory)),
      order_(PassOrder::of(parts.plan)),
      slots_(static_cast<size_t>(parts.plan.ring_requests)) {
  HR_CHECK(!slots_.empty() && memory_.size_bytes() >= parts.plan.ring_bytes());
  HR_CHECK(parts.link.depth() >= parts.plan.ring_requests);
  size_t most_tiles = 0;
  for (const TransferRequest& request : parts.plan.requests) {
    most_tiles = std::max<size_t>(most_tiles, request.tile_count);
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].memory = memory_.data() + i * parts.plan.ring_slot_bytes;
    slots_[i].runs.reserve(most_tiles);
    slots_[i].track = parts.trace.add_track(fmt::format("ring slot {}", i));
  }
  free_ = parts.plan.ring_requests;
}

DiskRing::~DiskRing() {
  parts_.link.stop();
  if (thread_.joinable()) thread_.join();
}

void DiskRing::begin() {
  accounted_ns_ = parts_.clock.now_ns();
  thread_ = std::thread([this] { wait_for_link(); });
  refill();
}

void DiskRing::begin_pass(const PassUse& use, bool with_logits) {
  HR_CHECK(use.host.empty());
  order_.begin_pass(use, with_logits);
  refill();
}

Lease DiskRing::take(uint32_t request) {
  Slot& slot = slot_at(taken_);
  std::unique_lock lock(mutex_);
  if (!failure_) {
    HR_CHECK(taken_ < fetched_ && slot.request == request && slot.state != State::kLeased);
    if (slot.state != State::kReady) {
      TraceSpan span(parts_.trace, "wait", "stream");
      const int64_t begin_ns = parts_.clock.now_ns();
      changed_.wait(lock, [&] { return slot.state == State::kReady || failure_; });
      counters_.wait_ns += parts_.clock.now_ns() - begin_ns;
    }
    if (!failure_ && slot.failure) failure_ = slot.failure;
  }
  if (failure_) throw Error(*failure_);
  const TransferRequest& transfer = parts_.plan.requests[request];
  set_state(slot, State::kLeased);
  slot.begin_ns = parts_.clock.now_ns();
  ++counters_.requests;
  counters_.payload_bytes += transfer.payload_bytes;
  counters_.leased_bytes += transfer.size_bytes;
  counters_.padding_bytes += transfer.size_bytes - transfer.payload_bytes;
  return Lease(this, taken_++, slot.runs);
}

void DiskRing::release(uint64_t ticket) {
  Slot& slot = slot_at(ticket);
  {
    const std::lock_guard lock(mutex_);
    trace_slot(slot, "lease", parts_.clock.now_ns());
    set_state(slot, State::kFree);
  }
  refill();
}

void DiskRing::abandon_pass() {
  {
    std::unique_lock lock(mutex_);
    for (; taken_ < fetched_ && slot_at(taken_).pass < order_.passes_begun(); ++taken_) {
      Slot& slot = slot_at(taken_);
      HR_CHECK(slot.state != State::kLeased);
      changed_.wait(lock, [&] { return slot.state == State::kReady || failure_; });
      if (failure_) return;
      counters_.dropped_bytes += parts_.plan.requests[slot.request].size_bytes;
      if (slot.failure) failure_ = slot.failure;
      set_state(slot, State::kFree);
    }
  }
  order_.skip_to_next_pass();
  refill();
}

void DiskRing::wait_idle() {
  std::unique_lock lock(mutex_);
  const auto moving = [](const Slot& slot) {
    return slot.state == State::kReading || slot.state == State::kChecking;
  };
  changed_.wait(lock, [&] { return failure_ || std::ranges::none_of(slots_, moving); });
}

StreamCounters DiskRing::counters() {
  const std::lock_guard lock(mutex_);
  account(parts_.clock.now_ns());
  return counters_;
}

/// Starts reads into all slots that are free, as far as it is known what comes next.
void DiskRing::refill() {
  while (order_.has_next() && start_next()) {
  }
}

bool DiskRing::start_next() {
  Slot& slot = slot_at(fetched_);
  {
    const std::lock_guard lock(mutex_);
    if (slot.state != State::kFree || failure_) return false;
    slot.request = order_.request();
    slot.pass = order_.pass();
    slot.begin_ns = parts_.clock.now_ns();
    slot.failure.reset();
    set_state(slot, State::kReading);
  }
  const TransferRequest& request = parts_.plan.requests[slot.request];
  slot.runs.clear();
  const uint32_t first_matrix = groups_[request.group].first_matrix;
  for (uint32_t t = request.first_tile; t < request.first_tile + request.tile_count; ++t) {
    append_run(parts_.manifest.tiles[t], first_matrix,
               slot.memory + (parts_.manifest.tiles[t].offset - request.offset), slot.runs);
  }
  const auto tag = static_cast<uint32_t>(fetched_ % slots_.size());
  ++fetched_;
  order_.advance();
  const int error = parts_.link.start(
      {.offset = request.offset, .to = {slot.memory, request.size_bytes}, .tag = tag});
  if (error == 0) return true;
  const std::lock_guard lock(mutex_);
  slot.failure = parts_.check.check(request.first_tile, request.tile_count, slot.memory, error);
  set_state(slot, State::kReady);
  return false;
}

/// Body of the ring's own thread.
void DiskRing::wait_for_link() {
  try {
    parts_.trace.name_thread("link");
    std::array<Completion, 64> completions;
    while (const size_t count = parts_.link.wait(completions)) {
      for (size_t i = 0; i < count; ++i) arrived(completions[i]);
    }
  } catch (const Error& error) {
    fail_all(error);
  } catch (const std::exception& error) {
    fail_all(Error(ErrorCode::kInternal, fmt::format("[stream] {}", error.what())));
  }
}

void DiskRing::arrived(const Completion& completion) {
  Slot& slot = slots_[completion.tag];
  const int64_t now_ns = parts_.clock.now_ns();
  uint32_t index;
  {
    const std::lock_guard lock(mutex_);
    index = slot.request;
    trace_slot(slot, "read", now_ns);
    set_state(slot, State::kChecking);
  }
  const TransferRequest& request = parts_.plan.requests[index];
  std::optional<Error> failure =
      parts_.check.check(request.first_tile, request.tile_count, slot.memory, completion.error);
  const std::lock_guard lock(mutex_);
  slot.failure = std::move(failure);
  if (completion.error == 0) counters_.read_bytes += request.size_bytes;
  set_state(slot, State::kReady);
  changed_.notify_one();
}

void DiskRing::fail_all(const Error& error) {
  const std::lock_guard lock(mutex_);
  failure_ = error;
  changed_.notify_one();
}

/// Adds the time since the last change to what it was spent on. REQUIRES: mutex_ is held.
void DiskRing::account(int64_t now_ns) {
  const int64_t spent = now_ns - accounted_ns_;
  accounted_ns_ = now_ns;
  if (reading_ > 0) {
    counters_.link_busy_ns += spent;
  } else if (free_ > 0) {
    counters_.starved_ns += spent;
  }
}

/// REQUIRES: mutex_ is held.
void DiskRing::set_state(Slot& slot, State state) {
  account(parts_.clock.now_ns());
  const auto count = [&](State which, int change) {
    if (which == State::kReading) reading_ += change;
    if (which == State::kFree) free_ += change;
  };
  count(slot.state, -1);
  count(state, 1);
  slot.state = state;
}

void DiskRing::trace_slot(const Slot& slot, const char* name, int64_t end_ns) {
  if (!parts_.trace.enabled()) return;
  TraceEvent event{.name = name,
                   .category = "stream",
                   .track = slot.track,
                   .begin_ns = slot.begin_ns,
                   .end_ns = end_ns};
  describe_request(event, parts_.plan.requests[slot.request], slot.request, slot.pass);
  parts_.trace.record(event);
}

}  // namespace headrace
