#include "executor/batch.h"

#include <algorithm>

#include "executor/block_copies.h"

namespace headrace {
namespace {

/// It failed in this pass, or its request did.
bool has_left(const Sequence& sequence) { return sequence.place == Sequence::Place::kNowhere; }

}  // namespace

bool Batch::step(const PassResources& resources, BatchEvents& events) {
  pass_ = {};
  prompt_rows_ = 0;
  prompt_sequences_ = 0;
  model_ns_ = 0;
  pass_ = scheduler_.next_pass();
  if (pass_.empty()) return false;
  const int64_t vocab = resources.model.config().vocab_size;
  pack(std::max<int64_t>(1, std::min(kMostBestTokens, vocab - 1)));
  const int64_t begin_ns = resources.clock.now_ns();
  copy_blocks(scheduler_.copies(), resources.kv, resources.backend);
  const float* logits =
      resources.model.forward({.ids = ids_, .sequences = rows_, .logit_rows = logit_rows_},
                              resources.stream, resources.embedding, resources.kv);
  const bool found_best = find_best(logits, resources);
  model_ns_ = resources.clock.now_ns() - begin_ns;
  for (const PassRows& rows : pass_) scheduler_.computed(rows);
  if (found_best) choose_from_best(events);
  choose_from_logits(logits, resources, found_best, events);
  return true;
}

/// `most_best`: likeliest tokens that a backend finds.
void Batch::pack(int64_t most_best) {
  ids_.clear();
  rows_.clear();
  logit_rows_.clear();
  owners_.clear();
  for (const PassRows& planned : pass_) {
    if (planned.sequence->decoding()) {
      pack_lines(*planned.sequence, most_best);
      continue;
    }
    prompt_rows_ += planned.rows;
    ++prompt_sequences_;
    pack_rows(*planned.sequence, planned.rows, most_best);
  }
}

/// The rows of a sequence that decodes.
void Batch::pack_lines(Sequence& sequence, int64_t most_best) {
  const auto begin = static_cast<int64_t>(ids_.size());
  for (int64_t line = 0; line < sequence.lines(); ++line) {
    rows_.push_back({.row_begin = static_cast<int64_t>(ids_.size()),
                     .rows = 1,
                     .position = sequence.cached,
                     .blocks = sequence.tables[static_cast<size_t>(line)]});
    ids_.push_back(sequence.last_token(line));
  }
  add_logit_rows({.sequence = &sequence,
                  .position = sequence.cached,
                  .count = static_cast<size_t>(sequence.lines()),
                  .chooses = true},
                 begin, most_best);
}

/// Rows of a prompt, or those that are computed again.
void Batch::pack_rows(Sequence& sequence, int64_t rows, int64_t most_best) {
  const auto begin = static_cast<int64_t>(ids_.size());
  const auto first = sequence.ids.begin() + sequence.cached;
  ids_.insert(ids_.end(), first, first + rows);
  rows_.push_back({.row_begin = begin,
                   .rows = rows,
                   .position = sequence.cached,
                   .blocks = sequence.tables[0]});
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t position = sequence.cached + i;
    const bool chooses = position + 1 == sequence.known();
    add_logit_rows({.sequence = &sequence, .position = position, .chooses = chooses}, begin + i,
                   most_best);
  }
}

/// Adds them if their logits are wanted; `first_row` of the pass is the first of them.
void Batch::add_logit_rows(const LogitRows& rows, int64_t first_row, int64_t most_best) {
  const Sequence& sequence = *rows.sequence;
  const bool in_prompt = sequence.context_logits && rows.position < sequence.prompt_size;
  const bool context = in_prompt && rows.position >= sequence.context_done;
  if (!rows.chooses && !context) return;
  LogitRows& added = owners_.emplace_back(rows);
  added.first = logit_rows_.size();
  // A search that starts over finds its first tokens as it did before, when their logits were told:
  // a device's sum of exponentials and the host's differ in the last bits.
  if (!in_prompt && sequence.logits_use == LogitsUse::kNone) {
    const int64_t needed = sequence.best_needed();
    added.best_needed = needed <= most_best ? needed : 0;
  }
  for (size_t i = 0; i < rows.count; ++i) {
    logit_rows_.push_back(static_cast<int32_t>(first_row + static_cast<int64_t>(i)));
  }
}

/// Lets the backend find the likeliest tokens, if they are all that some sequence wants.
bool Batch::find_best(const float* logits, const PassResources& resources) {
  best_count_ = 0;
  for (const LogitRows& rows : owners_) best_count_ = std::max(best_count_, rows.best_needed);
  if (best_count_ == 0) return false;
  best_ids_.resize(logit_rows_.size() * static_cast<size_t>(best_count_));
  best_logits_.resize(best_ids_.size());
  log_sums_.resize(logit_rows_.size());
  return resources.backend.best_tokens(
      logits, resources.model.config().vocab_size,
      {.count = best_count_, .ids = best_ids_, .logits = best_logits_, .log_sums = log_sums_});
}

void Batch::choose_from_best(BatchEvents& events) {
  const auto count = static_cast<size_t>(best_count_);
  for (const LogitRows& rows : owners_) {
    if (rows.best_needed == 0 || has_left(*rows.sequence)) continue;
    choose(*rows.sequence, events, [&] {
      const size_t first = rows.first * count;
      rows.sequence->choose_from_best(
          {.count = best_count_,
           .ids = std::span(best_ids_).subspan(first, rows.count * count),
           .logits = std::span(best_logits_).subspan(first, rows.count * count),
           .log_sums = std::span(log_sums_).subspan(rows.first, rows.count)});
    });
  }
}

void Batch::choose_from_logits(const float* logits, const PassResources& resources, bool found_best,
                               BatchEvents& events) {
  const auto vocab = static_cast<size_t>(resources.model.config().vocab_size);
  batched_.clear();
  batched_logits_.clear();
  for (const LogitRows& rows : owners_) {
    if (found_best && rows.best_needed > 0) continue;
    host_logits_.resize(rows.count * vocab);
    resources.backend.download(std::as_writable_bytes(std::span(host_logits_)),
                               reinterpret_cast<const std::byte*>(logits + rows.first * vocab));
    take_rows(rows, host_logits_, events);
  }
  if (!batched_.empty()) choose_batched(static_cast<int64_t>(vocab), events);
}

void Batch::take_rows(const LogitRows& rows, std::span<float> logits, BatchEvents& events) {
  Sequence& sequence = *rows.sequence;
  if (has_left(sequence)) return;
  if (sequence.context_logits && rows.position == sequence.context_done &&
      rows.position < sequence.prompt_size) {
    try {
      events.on_context_logits(sequence, rows.position, logits);
    } catch (...) {
      return fail(sequence, events);
    }
    ++sequence.context_done;
  }
  if (!rows.chooses) return;
  if (sequence.logits_use == LogitsUse::kBatched) {
    batched_.push_back(&sequence);
    batched_logits_.insert(batched_logits_.end(), logits.begin(), logits.end());
    return;
  }
  choose(sequence, events, [&] {
    if (sequence.logits_use == LogitsUse::kEach) events.on_logits(sequence, logits);
    sequence.choose(logits);
  });
}

void Batch::choose_batched(int64_t vocab, BatchEvents& events) {
  try {
    events.on_batched_logits(batched_, batched_logits_);
  } catch (...) {
    for (Sequence* sequence : batched_) fail(*sequence, events);
    return;
  }
  std::span<const float> left = batched_logits_;
  for (Sequence* sequence : batched_) {
    const auto size = static_cast<size_t>(sequence->lines() * vocab);
    const std::span<const float> own = left.first(size);
    left = left.subspan(size);
    if (!has_left(*sequence)) choose(*sequence, events, [&] { sequence->choose(own); });
  }
}

template <typename Choose>
void Batch::choose(Sequence& sequence, BatchEvents& events, Choose&& choose) {
  try {
    choose();
    accept(sequence, events);
  } catch (...) {
    fail(sequence, events);
  }
}

void Batch::accept(Sequence& sequence, BatchEvents& events) {
  if (sequence.finished()) scheduler_.remove(sequence);
  if (events.on_token(sequence)) return;
  if (sequence.finish_reason != FinishReason::kEndId) {
    sequence.finish_reason = FinishReason::kStopped;
  }
  scheduler_.remove(sequence);
}

/// REQUIRES: an exception is being handled.
void Batch::fail(Sequence& sequence, BatchEvents& events) {
  scheduler_.remove(sequence);
  events.on_failure(sequence, std::current_exception());
}

}  // namespace headrace
