#include "executor/batch_run.h"

#include <algorithm>

#include "base/error.h"

namespace headrace {
namespace {

double elapsed_ms(const Clock& clock, int64_t since_ns) {
  return static_cast<double>(clock.now_ns() - since_ns) / 1e6;
}

}  // namespace

BatchRun::BatchRun(const BatchResources& resources, std::span<const GenerationRequest> requests,
                   int64_t chunk, bool context_logits, GenerationObserver* observer)
    : resources_(resources), chunk_(chunk), context_logits_(context_logits), observer_(observer) {
  sequences_.reserve(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) sequences_.emplace_back(requests[i], i);
  const auto rows = static_cast<size_t>(resources.model.limits().max_tokens);
  ids_.reserve(rows);
  rows_.reserve(requests.size());
  logit_rows_.reserve(rows);
  owners_.reserve(rows);
  host_logits_.resize(static_cast<size_t>(resources.model.config().vocab_size));
}

BatchRun::~BatchRun() {
  for (Sequence& sequence : sequences_) resources_.kv.release(sequence.blocks);
}

std::vector<GenerationResult> BatchRun::run(GenerationStats& stats) {
  for (const Sequence& sequence : sequences_) stats.prompt_tokens += sequence.prompt_size();
  const int64_t prefill_start = resources_.clock.now_ns();
  while (prefill_pass()) ++stats.prefill_passes;
  stats.prefill_ms = elapsed_ms(resources_.clock, prefill_start);
  const int64_t decode_start = resources_.clock.now_ns();
  const StreamCounters before_decode = resources_.stream.counters();
  while (decode_pass()) ++stats.decode_passes;
  stats.decode_ms = elapsed_ms(resources_.clock, decode_start);
  stats.decode_stream = resources_.stream.counters() - before_decode;

  std::vector<GenerationResult> results;
  results.reserve(sequences_.size());
  for (Sequence& sequence : sequences_) {
    stats.generated_tokens += static_cast<int64_t>(sequence.result.tokens.size());
    results.push_back(std::move(sequence.result));
  }
  return results;
}

/// Runs one pass over prompt rows; false if no prompt has rows left.
bool BatchRun::prefill_pass() {
  clear_pass();
  for (Sequence& sequence : sequences_) {
    const int64_t room = chunk_ - static_cast<int64_t>(ids_.size());
    if (!sequence.prefilling() || room == 0) continue;
    const int64_t count = std::min(room, sequence.prompt_size() - sequence.cached);
    add_rows(sequence,
             std::span(sequence.request.prompt)
                 .subspan(static_cast<size_t>(sequence.cached), static_cast<size_t>(count)),
             context_logits_);
  }
  if (ids_.empty()) return false;
  forward();
  return true;
}

/// Runs one pass with the last token of every live sequence; false if none is left.
bool BatchRun::decode_pass() {
  clear_pass();
  for (Sequence& sequence : sequences_) {
    if (!sequence.live) continue;
    add_rows(sequence, std::span(&sequence.result.tokens.back(), 1), true);
  }
  if (ids_.empty()) return false;
  forward();
  return true;
}

void BatchRun::clear_pass() {
  ids_.clear();
  rows_.clear();
  logit_rows_.clear();
  owners_.clear();
}

void BatchRun::add_rows(Sequence& sequence, std::span<const int32_t> ids, bool all_logits) {
  const auto begin = static_cast<int64_t>(ids_.size());
  const auto count = static_cast<int64_t>(ids.size());
  // Session::check() and the cache's size make sure that the blocks are there.
  HR_CHECK(resources_.kv.grow(sequence.blocks, sequence.cached + count));
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  rows_.push_back(
      {.row_begin = begin, .rows = count, .position = sequence.cached, .blocks = sequence.blocks});
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = sequence.cached + i;
    if (!all_logits && position + 1 < sequence.prompt_size()) continue;
    logit_rows_.push_back(static_cast<int32_t>(begin + i));
    owners_.push_back({.sequence = &sequence, .position = position});
  }
  sequence.cached += count;
}

void BatchRun::forward() {
  const float* logits =
      resources_.model.forward({.ids = ids_, .sequences = rows_, .logit_rows = logit_rows_},
                               resources_.stream, resources_.embedding, resources_.kv);
  if (take_best(logits)) return;
  for (size_t i = 0; i < owners_.size(); ++i) {
    const float* row = logits + i * host_logits_.size();
    resources_.backend.download(std::as_writable_bytes(std::span(host_logits_)),
                                reinterpret_cast<const std::byte*>(row));
    take_logits(*owners_[i].sequence, owners_[i].position, host_logits_);
  }
}

/// How many of the likeliest tokens of each row are all that anybody wants; 0 if somebody wants
/// more than a backend finds, or logits as such.
int64_t BatchRun::best_needed() const {
  if (context_logits_ || (observer_ != nullptr && observer_->wants_logits())) return 0;
  const int64_t most = std::min(kMostBestTokens, resources_.model.config().vocab_size - 1);
  int64_t count = 0;
  for (const LogitOwner& owner : owners_) {
    const int64_t needed = owner.sequence->sampler.best_needed();
    if (needed == 0 || needed > std::max<int64_t>(most, 1)) return 0;
    count = std::max(count, needed);
  }
  return count;
}

/// Lets the backend find the likeliest tokens, if they are all that is wanted.
bool BatchRun::take_best(const float* logits) {
  const int64_t count = best_needed();
  if (count == 0) return false;
  const auto row_size = static_cast<size_t>(count);
  best_ids_.resize(owners_.size() * row_size);
  best_logits_.resize(best_ids_.size());
  log_sums_.resize(owners_.size());
  const BestTokens best = {
      .count = count, .ids = best_ids_, .logits = best_logits_, .log_sums = log_sums_};
  if (!resources_.backend.best_tokens(logits, resources_.model.config().vocab_size, best)) {
    return false;
  }
  for (size_t i = 0; i < owners_.size(); ++i) {
    Sequence& sequence = *owners_[i].sequence;
    const auto needed = static_cast<size_t>(sequence.sampler.best_needed());
    accept_token(sequence,
                 sequence.sampler.sample_best(std::span(best_ids_).subspan(i * row_size, needed),
                                              std::span(best_logits_).subspan(i * row_size, needed),
                                              log_sums_[i]));
  }
  return true;
}

void BatchRun::take_logits(Sequence& sequence, int64_t position, std::span<const float> logits) {
  if (observer_ != nullptr && context_logits_ && position < sequence.prompt_size()) {
    observer_->on_context_logits(sequence.index, position, logits);
  }
  if (position + 1 < sequence.prompt_size()) return;
  if (observer_ != nullptr) {
    observer_->on_generation_logits(sequence.index,
                                    static_cast<int64_t>(sequence.result.tokens.size()), logits);
  }
  accept_token(sequence, sequence.sampler.sample(logits));
}

void BatchRun::accept_token(Sequence& sequence, const SampledToken& sampled) {
  GenerationResult& result = sequence.result;
  const GenerationRequest& request = sequence.request;
  result.tokens.push_back(sampled.id);
  result.log_probs.push_back(sampled.log_prob);
  result.cumulative_log_prob += static_cast<double>(sampled.log_prob);
  if (observer_ != nullptr && !observer_->on_token(sequence.index, sampled.id)) {
    result.finish_reason = FinishReason::kStopped;
    sequence.live = false;
  }
  if (std::find(request.end_ids.begin(), request.end_ids.end(), sampled.id) !=
      request.end_ids.end()) {
    result.finish_reason = FinishReason::kEndId;
    sequence.live = false;
  }
  if (static_cast<int64_t>(result.tokens.size()) >= request.max_new_tokens) sequence.live = false;
}

}  // namespace headrace
