#include "executor/scheduler.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "base/error.h"

namespace headrace {
namespace {

/// Rows of the sequence, from its first uncached one on, that want no logits.
int64_t rows_without_logits(const Sequence& sequence) {
  const bool context_left = sequence.context_logits && sequence.context_done < sequence.prompt_size;
  const int64_t first =
      context_left ? std::max(sequence.context_done, sequence.cached) : sequence.known() - 1;
  return first - sequence.cached;
}

}  // namespace

bool Scheduler::ByOrder::operator()(const Sequence* a, const Sequence* b) const {
  return std::tuple(!a->urgent, -a->priority, a->arrival, a->index) <
         std::tuple(!b->urgent, -b->priority, b->arrival, b->index);
}

bool Scheduler::ByArrival::operator()(const Sequence* a, const Sequence* b) const {
  return std::tuple(a->arrival, a->index) < std::tuple(b->arrival, b->index);
}

Scheduler::Scheduler(const SchedulerLimits& limits, KvCache& kv) : limits_(limits), kv_(kv) {
  HR_CHECK(limits.max_sequences >= 1 && limits.max_rows >= limits.max_sequences);
  HR_CHECK(limits.max_logit_rows >= limits.max_sequences);
  if (limits.reuse_prefixes) prefixes_ = std::make_unique<PrefixCache>(kv);
  const auto sequences = static_cast<size_t>(limits.max_sequences);
  running_.reserve(sequences);
  pass_.reserve(sequences);
  prompts_.reserve(sequences);
  admitted_.reserve(sequences);
}

void Scheduler::add(Sequence& sequence) {
  HR_CHECK(sequence.prompt_size > 0 && sequence.place == Sequence::Place::kNowhere);
  HR_CHECK(sequence.width <= limits_.max_sequences);
  HR_CHECK(blocks_for(sequence, sequence.final_positions()) <= kv_.blocks());
  sequence.admitted_before = admissions_;
  sequence.waiting_before = waiting_.size();
  wait(sequence);
}

void Scheduler::wait(Sequence& sequence) {
  sequence.place = Sequence::Place::kWaiting;
  waiting_.insert(&sequence);
  oldest_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.place == Sequence::Place::kWaiting) {
    waiting_.erase(&sequence);
    oldest_.erase(&sequence);
  } else if (sequence.place == Sequence::Place::kRunning) {
    running_.erase(std::find(running_.begin(), running_.end(), &sequence));
    stop_running(sequence);
  }
  sequence.place = Sequence::Place::kNowhere;
}

std::span<const PassRows> Scheduler::next_pass() {
  pass_.clear();
  prompts_.clear();
  copies_.clear();
  admitted_.clear();
  const int64_t preempted_before = preempted_;
  Room room{.rows = limits_.max_rows, .logit_rows = limits_.max_logit_rows};
  for (const Sequence* sequence : running_) {
    if (!sequence->decoding()) continue;
    room.rows -= sequence->lines();
    room.logit_rows -= sequence->lines();
  }
  plan_running(room);
  // What a preempted sequence gave back is for those that run, not for the next to come.
  if (preempted_ == preempted_before) admit(room);
  pass_.insert(pass_.end(), prompts_.begin(), prompts_.end());
  return pass_;
}

void Scheduler::computed(const PassRows& rows) {
  Sequence& sequence = *rows.sequence;
  const bool decoding = sequence.decoding();
  sequence.cached += decoding ? 1 : rows.rows;
  sequence.context_position = std::min(sequence.cached, sequence.prompt_size);
  if (!prefixes_ || (sequence.beams && decoding)) return;  // beams may yet be dropped
  prefixes_->remember(sequence.ids, sequence.cached, sequence.tables[0], sequence.prefix);
}

void Scheduler::forget_prefixes() {
  if (!prefixes_) return;
  prefixes_->forget();
  for (Sequence* sequence : running_) sequence->prefix = {};
}

int64_t Scheduler::least_blocks() const {
  const bool keeps_all = limits_.policy == CapacityPolicy::kGuaranteedNoEvict;
  int64_t blocks = keeps_all ? reserved_ : 0;
  const auto include = [&](const Sequence* sequence) {
    blocks = std::max(blocks, blocks_for(*sequence, sequence->final_positions()));
  };
  std::ranges::for_each(waiting_, include);
  std::ranges::for_each(running_, include);
  return blocks;
}

std::vector<KvBlockCopy> Scheduler::vacate(int64_t blocks) {
  HR_CHECK(blocks >= least_blocks());
  Room of_no_pass;
  while (kv_.blocks() - free_blocks() > blocks) preempt_last(of_no_pass);
  if (prefixes_) HR_CHECK(prefixes_->make_room(kv_.blocks() - blocks));
  std::vector<int32_t> number(static_cast<size_t>(kv_.blocks()));
  std::iota(number.begin(), number.end(), 0);
  std::vector<KvBlockCopy> moves = kv_.vacate(blocks);
  for (const KvBlockCopy& move : moves) number[static_cast<size_t>(move.from)] = move.to;
  for (Sequence* sequence : running_) {
    for (auto& table : sequence->tables) {
      for (int32_t& block : table) block = number[static_cast<size_t>(block)];
    }
  }
  if (prefixes_) prefixes_->rename(moves);
  return moves;
}

bool Scheduler::resize_cache(int64_t blocks) {
  const bool resized = kv_.resize(blocks);
  if (prefixes_) prefixes_->resize();
  return resized;
}

int64_t Scheduler::free_blocks() const {
  return kv_.free_blocks() + (prefixes_ ? prefixes_->idle() : 0);
}

/// Lets the block tables follow the last step of a beam search. False, and nothing changed, if the
/// blocks for copies are not there. Blocks that are remembered are the prompt's, which some line
/// always keeps: none becomes idle here.
bool Scheduler::follow_beams(Sequence& sequence) {
  if (sequence.parents.empty()) return true;
  while (!kv_.reorder(sequence.tables, sequence.parents, sequence.cached, copies_)) {
    if (!prefixes_ || !prefixes_->make_room(kv_.free_blocks() + 1)) return false;
  }
  sequence.parents.clear();
  return true;
}

/// Extends the block tables to so many positions. False, and none of them extended, if the blocks
/// are not there.
bool Scheduler::take_blocks(Sequence& sequence, int64_t positions) {
  if (!follow_beams(sequence)) return false;
  const int64_t wanted = kv_.shape().blocks_for(positions);
  int64_t missing = 0;
  for (const auto& table : sequence.tables) missing += wanted - static_cast<int64_t>(table.size());
  if (prefixes_ && !prefixes_->make_room(missing)) return false;
  if (missing > kv_.free_blocks()) return false;
  for (auto& table : sequence.tables) HR_CHECK(kv_.grow(table, positions));
  return true;
}

/// Takes over what is known of the sequence's beginning, unless its logits are still wanted.
void Scheduler::find_prefix(Sequence& sequence) {
  if (!prefixes_) return;
  if (sequence.context_logits && sequence.context_done < sequence.prompt_size) return;
  const int64_t blocks = prefixes_->find(sequence.ids, sequence.tables[0], sequence.prefix);
  sequence.cached = blocks * kv_.shape().block_tokens;
}

/// In order, so that those which are preempted have not been planned yet.
void Scheduler::plan_running(Room& room) {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    const bool decoding = sequence.decoding();
    const int64_t rows = decoding ? sequence.lines() : prompt_rows(sequence, room);
    if (rows == 0) continue;
    if (!grow(sequence, decoding ? 1 : rows, room)) return;
    if (decoding) {
      pass_.push_back({.sequence = &sequence, .rows = rows});
    } else {
      plan_prompt(sequence, rows, room);
    }
  }
}

/// Gets the blocks for `positions` more positions of each line, if need be from those behind in
/// order. False if the sequence was the last itself, and is preempted.
bool Scheduler::grow(Sequence& sequence, int64_t positions, Room& room) {
  while (!take_blocks(sequence, sequence.cached + positions)) {
    HR_CHECK(limits_.policy == CapacityPolicy::kMaxUtilization && running_.size() > 1);
    const bool itself = running_.back() == &sequence;
    preempt_last(room);
    if (itself) return false;
  }
  return true;
}

void Scheduler::preempt_last(Room& room) {
  Sequence& last = *running_.back();
  if (last.decoding()) {
    room.rows += last.lines();
    room.logit_rows += last.lines();
  }
  running_.pop_back();
  stop_running(last);
  last.restart();
  last.context_position = 0;
  ++last.preemptions;
  ++preempted_;
  wait(last);
}

void Scheduler::admit(Room& room) {
  int64_t promised = promised_blocks();
  while (!waiting_.empty() && lines_ < limits_.max_sequences) {
    promote_overtaken();
    Sequence& sequence = **waiting_.begin();
    if (!fits(sequence, promised)) return;
    find_prefix(sequence);
    const int64_t rows = prompt_rows(sequence, room);
    if (rows == 0) {
      drop_cache(sequence);
      return;
    }
    run(sequence);
    HR_CHECK(take_blocks(sequence, sequence.cached + rows));
    promised += blocks_to_take(sequence);
    plan_prompt(sequence, rows, room);
  }
}

/// Later arrivals are those admitted since the oldest waiting sequence came, but for the ones that
/// waited before it: they have all gone.
void Scheduler::promote_overtaken() {
  Sequence& oldest = **oldest_.begin();
  const uint64_t since = admissions_ - oldest.admitted_before;
  if (oldest.urgent || since < oldest.waiting_before + kMostOvertaken) return;
  waiting_.erase(&oldest);
  oldest.urgent = true;
  waiting_.insert(&oldest);
}

void Scheduler::run(Sequence& sequence) {
  waiting_.erase(&sequence);
  oldest_.erase(&sequence);
  sequence.place = Sequence::Place::kRunning;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, ByOrder()),
                  &sequence);
  lines_ += sequence.width;
  reserved_ += blocks_for(sequence, sequence.final_positions());
  sequence.reused_blocks += sequence.prefix.blocks;
  reused_blocks_ += sequence.prefix.blocks;
  ++admissions_;
  admitted_.push_back(&sequence);
}

/// Undoes run(), for a sequence that is no longer in running_.
void Scheduler::stop_running(Sequence& sequence) {
  lines_ -= sequence.width;
  reserved_ -= blocks_for(sequence, sequence.final_positions());
  drop_cache(sequence);
}

void Scheduler::drop_cache(Sequence& sequence) {
  for (auto& table : sequence.tables) prefixes_ ? prefixes_->release(table) : kv_.release(table);
  sequence.tables.resize(1);
  sequence.cached = 0;
  sequence.prefix = {};
}

void Scheduler::plan_prompt(Sequence& sequence, int64_t rows, Room& room) {
  room.rows -= rows;
  room.logit_rows -= std::max<int64_t>(0, rows - rows_without_logits(sequence));
  prompts_.push_back({.sequence = &sequence, .rows = rows});
}

/// How many rows of a sequence that is not decoding a pass with `room` takes.
int64_t Scheduler::prompt_rows(const Sequence& sequence, const Room& room) const {
  const int64_t wanted = sequence.known() - sequence.cached;
  const int64_t rows =
      std::min({wanted, room.rows, rows_without_logits(sequence) + room.logit_rows});
  // The first in order always finds that many.
  const bool whole = !limits_.chunked_prompts && !sequence.context_logits &&
                     wanted <= limits_.max_rows - limits_.max_sequences;
  return whole && rows < wanted ? 0 : rows;
}

/// Blocks that its lines hold at most when each has so many positions.
int64_t Scheduler::blocks_for(const Sequence& sequence, int64_t positions) const {
  return kv_.shape().blocks_for_beams(sequence.width, sequence.prompt_size, positions);
}

/// Blocks that the sequence has when it has been computed and has decoded one token.
int64_t Scheduler::blocks_of_next_step(const Sequence& sequence) const {
  return blocks_for(sequence, std::min(sequence.known() + 1, sequence.final_positions()));
}

/// Blocks that a running sequence takes at most until then. Lines that go on share what they have.
int64_t Scheduler::blocks_to_take(const Sequence& sequence) const {
  const auto held = static_cast<int64_t>(sequence.tables[0].size());
  if (sequence.tables.size() == 1) {
    return std::max<int64_t>(0, blocks_of_next_step(sequence) - held);
  }
  const int64_t each =
      kv_.shape().blocks_for(std::min(sequence.known() + 1, sequence.final_positions()));
  const int64_t copied = sequence.width - static_cast<int64_t>(sequence.tables.size());
  return sequence.width * std::max<int64_t>(0, each - held) + copied;
}

/// Blocks that running sequences are about to take.
int64_t Scheduler::promised_blocks() const {
  int64_t blocks = 0;
  for (const Sequence* sequence : running_) blocks += blocks_to_take(*sequence);
  return blocks;
}

bool Scheduler::fits(const Sequence& sequence, int64_t promised) const {
  if (lines_ + sequence.width > limits_.max_sequences) return false;
  if (limits_.policy == CapacityPolicy::kGuaranteedNoEvict) {
    return reserved_ + blocks_for(sequence, sequence.final_positions()) <= kv_.blocks();
  }
  return promised + blocks_of_next_step(sequence) <= free_blocks();
}

}  // namespace headrace
