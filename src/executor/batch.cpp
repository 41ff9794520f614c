#include "executor/batch.h"

#include <algorithm>

#include "base/error.h"

namespace headrace {

bool Batch::step(const PassResources& resources, BatchEvents& events) {
  pass_ = scheduler_.next_pass();
  if (pass_.empty()) return false;
  const int64_t vocab = resources.model.config().vocab_size;
  pack(std::max<int64_t>(1, std::min(kMostBestTokens, vocab - 1)));
  const int64_t begin_ns = resources.clock.now_ns();
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
  prompt_rows_ = 0;
  prompt_sequences_ = 0;
  model_ns_ = 0;
  for (const PassRows& planned : pass_) {
    Sequence& sequence = *planned.sequence;
    if (!sequence.decoding()) {
      prompt_rows_ += planned.rows;
      ++prompt_sequences_;
    }
    const auto begin = static_cast<int64_t>(ids_.size());
    const auto first = sequence.ids.begin() + sequence.cached;
    ids_.insert(ids_.end(), first, first + planned.rows);
    rows_.push_back({.row_begin = begin,
                     .rows = planned.rows,
                     .position = sequence.cached,
                     .blocks = sequence.blocks});
    add_logit_rows(sequence, planned.rows, begin, most_best);
  }
}

void Batch::add_logit_rows(Sequence& sequence, int64_t rows, int64_t row_begin, int64_t most_best) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t position = sequence.cached + i;
    const bool chooses = position + 1 == sequence.known();
    const bool context = sequence.context_logits && position >= sequence.context_done &&
                         position < sequence.prompt_size;
    if (!chooses && !context) continue;
    LogitRow row{.sequence = &sequence, .position = position, .chooses = chooses};
    if (!context && sequence.logits_use == LogitsUse::kNone) {
      const int64_t needed = sequence.sampler.best_needed();
      row.best_needed = needed <= most_best ? needed : 0;
    }
    logit_rows_.push_back(static_cast<int32_t>(row_begin + i));
    owners_.push_back(row);
  }
}

/// Lets the backend find the likeliest tokens, if they are all that some sequence wants.
bool Batch::find_best(const float* logits, const PassResources& resources) {
  best_count_ = 0;
  for (const LogitRow& row : owners_) best_count_ = std::max(best_count_, row.best_needed);
  if (best_count_ == 0) return false;
  best_ids_.resize(owners_.size() * static_cast<size_t>(best_count_));
  best_logits_.resize(best_ids_.size());
  log_sums_.resize(owners_.size());
  return resources.backend.best_tokens(
      logits, resources.model.config().vocab_size,
      {.count = best_count_, .ids = best_ids_, .logits = best_logits_, .log_sums = log_sums_});
}

void Batch::choose_from_best(BatchEvents& events) {
  for (size_t i = 0; i < owners_.size(); ++i) {
    if (owners_[i].best_needed == 0) continue;
    const size_t first = i * static_cast<size_t>(best_count_);
    const auto needed = static_cast<size_t>(owners_[i].best_needed);
    Sequence& sequence = *owners_[i].sequence;
    choose(sequence, events, [&] {
      return sequence.sampler.sample_best(std::span(best_ids_).subspan(first, needed),
                                          std::span(best_logits_).subspan(first, needed),
                                          log_sums_[i]);
    });
  }
}

void Batch::choose_from_logits(const float* logits, const PassResources& resources, bool found_best,
                               BatchEvents& events) {
  const auto vocab = static_cast<size_t>(resources.model.config().vocab_size);
  host_logits_.resize(vocab);
  batched_.clear();
  batched_logits_.clear();
  for (size_t i = 0; i < owners_.size(); ++i) {
    if (found_best && owners_[i].best_needed > 0) continue;
    resources.backend.download(std::as_writable_bytes(std::span(host_logits_)),
                               reinterpret_cast<const std::byte*>(logits + i * vocab));
    take_row(owners_[i], host_logits_, events);
  }
  if (!batched_.empty()) choose_batched(static_cast<int64_t>(vocab), events);
}

void Batch::take_row(const LogitRow& row, std::span<float> logits, BatchEvents& events) {
  Sequence& sequence = *row.sequence;
  if (sequence.context_logits && row.position == sequence.context_done &&
      row.position < sequence.prompt_size) {
    events.on_context_logits(sequence, row.position, logits);
    ++sequence.context_done;
  }
  if (!row.chooses) return;
  if (sequence.logits_use == LogitsUse::kBatched) {
    batched_.push_back(&sequence);
    batched_logits_.insert(batched_logits_.end(), logits.begin(), logits.end());
    return;
  }
  choose(sequence, events, [&] {
    if (sequence.logits_use == LogitsUse::kEach) events.on_logits(sequence, logits);
    return sequence.sampler.sample(logits);
  });
}

void Batch::choose_batched(int64_t vocab, BatchEvents& events) {
  try {
    events.on_batched_logits(batched_, batched_logits_);
  } catch (...) {
    for (Sequence* sequence : batched_) fail(*sequence, events);
    return;
  }
  for (size_t i = 0; i < batched_.size(); ++i) {
    const auto row = static_cast<size_t>(vocab);
    choose(*batched_[i], events, [&] {
      return batched_[i]->sampler.sample(std::span(batched_logits_).subspan(i * row, row));
    });
  }
}

template <typename Choose>
void Batch::choose(Sequence& sequence, BatchEvents& events, Choose&& choose) {
  SampledToken token;
  try {
    token = choose();
  } catch (...) {
    fail(sequence, events);
    return;
  }
  accept(sequence, token, events);
}

void Batch::accept(Sequence& sequence, const SampledToken& token, BatchEvents& events) {
  sequence.ids.push_back(token.id);
  sequence.log_probs.push_back(token.log_prob);
  sequence.cumulative_log_prob += static_cast<double>(token.log_prob);
  if (std::ranges::find(sequence.end_ids, token.id) != sequence.end_ids.end()) {
    sequence.finish_reason = FinishReason::kEndId;
  } else if (ends_with_word(sequence.generated_ids(), sequence.stop_words)) {
    sequence.finish_reason = FinishReason::kStopped;
  } else if (sequence.generated() >= sequence.max_new_tokens) {
    sequence.finish_reason = FinishReason::kLength;
  }
  if (sequence.finished()) scheduler_.remove(sequence);
  if (events.on_token(sequence, token)) return;
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
