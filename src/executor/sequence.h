#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "executor/prefix_cache.h"
#include "headrace/response.h"
#include "sampling/sampler.h"
#include "sampling/sampling_params.h"
#include "sampling/token_constraints.h"

namespace headrace {

/// What a sequence's logits are for, beside choosing its tokens.
enum class LogitsUse : uint8_t {
  kNone,     // they need not leave the device
  kEach,     // BatchEvents::on_logits
  kBatched,  // BatchEvents::on_batched_logits
};

/// What a sequence begins with.
struct SequenceOptions {
  uint64_t request_id = 0;  // chosen by whoever owns it
  int32_t index = 0;        // among the sequences of its request
  std::vector<int32_t> prompt = {};
  int64_t max_new_tokens = 1;
  std::vector<int32_t> end_ids = {};
  SamplingParams sampling = {};
  TokenConstraints constraints = {};
  float priority = 0.5f;
  uint64_t arrival = 0;         // its place in the order of arrivals
  bool context_logits = false;  // BatchEvents::on_context_logits
  LogitsUse logits_use = LogitsUse::kNone;
};

/// One line of tokens on its way from prompt to end. Owned by whoever made it, which keeps it where
/// it is until it has ended; moved on by Scheduler and Batch. Confined to one thread.
struct Sequence {
  explicit Sequence(const SequenceOptions& options)
      : request_id(options.request_id),
        index(options.index),
        prompt_size(static_cast<int64_t>(options.prompt.size())),
        max_new_tokens(options.max_new_tokens),
        end_ids(options.end_ids),
        stop_words(options.constraints.stop_words),
        priority(options.priority),
        arrival(options.arrival),
        context_logits(options.context_logits),
        logits_use(options.logits_use),
        ids(options.prompt),
        sampler(options.sampling, options.prompt, options.end_ids, options.constraints) {}
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  int64_t known() const { return static_cast<int64_t>(ids.size()); }
  int64_t generated() const { return known() - prompt_size; }
  std::span<const int32_t> generated_ids() const {
    return std::span(ids).subspan(static_cast<size_t>(prompt_size));
  }
  /// Positions in the cache when it ends: the last token never gets there.
  int64_t final_positions() const { return prompt_size + max_new_tokens - 1; }
  /// Its next row is the token generated last, and nothing else is to be computed.
  bool decoding() const { return generated() > 0 && cached + 1 == known(); }
  bool finished() const { return finish_reason != FinishReason::kNotFinished; }

  const uint64_t request_id;
  const int32_t index;
  const int64_t prompt_size;
  const int64_t max_new_tokens;
  const std::vector<int32_t> end_ids;
  const std::vector<TokenWord> stop_words;
  const float priority;
  const uint64_t arrival;
  const bool context_logits;
  const LogitsUse logits_use;

  std::vector<int32_t> ids;  // the prompt and what has been generated
  Sampler sampler;
  std::vector<float> log_probs;  // of the generated tokens
  double cumulative_log_prob = 0;
  FinishReason finish_reason = FinishReason::kNotFinished;

  // The scheduler's.
  enum class Place : uint8_t { kNowhere, kWaiting, kRunning };
  Place place = Place::kNowhere;
  std::vector<int32_t> blocks;  // of the KV cache
  int64_t cached = 0;           // positions whose K and V are there
  int64_t context_done = 0;     // prompt positions whose logits have been handed out
  int64_t preemptions = 0;
  int64_t reused_blocks = 0;  // of its prompt, found in the cache
  PrefixCache::Cursor prefix = {};
  bool urgent = false;           // others have overtaken it often enough
  uint64_t admitted_before = 0;  // admissions of others until it came
  uint64_t waiting_before = 0;   // sequences that waited when it came
};

}  // namespace headrace
