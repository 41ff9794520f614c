#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "executor/prefix_cache.h"
#include "headrace/response.h"
#include "kernels/backend.h"
#include "sampling/beam_search.h"
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
  BeamSearchOptions beams = {};  // beam_width 1: none; max_new_tokens above holds
  TokenConstraints constraints = {};
  float priority = 0.5f;
  uint64_t arrival = 0;         // its place in the order of arrivals
  bool context_logits = false;  // BatchEvents::on_context_logits
  LogitsUse logits_use = LogitsUse::kNone;
};

/// One line of tokens on its way from prompt to end, or the lines of a beam search: one until the
/// first tokens are chosen, then one for each beam. Owned by whoever made it, which keeps it where
/// it is until it has ended; moved on by Scheduler and Batch. Confined to one thread.
struct Sequence {
  explicit Sequence(const SequenceOptions& options);
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
  /// Rows that choose its next tokens, and rows of a pass in which it decodes: up to `width`.
  int64_t lines() const { return beams ? beams->rows() : 1; }
  /// The token that row `line` of a pass in which it decodes begins with.
  int32_t last_token(int64_t line) const { return beams ? beams->tokens(line).back() : ids.back(); }
  /// How many of the likeliest tokens of each row choose_from_best() takes; 0: all logits are
  /// needed.
  int64_t best_needed() const { return beams ? beams->best_needed() : sampler->best_needed(); }

  /// Chooses the next tokens from logits [lines, vocab] and adds them. Throws what the sampler or
  /// the search throws.
  void choose(std::span<const float> logits);
  /// The same from the first best_needed() of `best`, whose rows are the lines.
  void choose_from_best(const BestTokens& best);
  /// Forgets what a beam search has found: its beams cannot be computed again as one line. Others
  /// keep their tokens.
  void restart();

  const uint64_t request_id;
  const int32_t index;
  const int64_t width;  // lines that it may have
  const int64_t prompt_size;
  const int64_t max_new_tokens;
  const std::vector<int32_t> end_ids;
  const std::vector<TokenWord> stop_words;
  const float priority;
  const uint64_t arrival;
  const bool context_logits;
  const LogitsUse logits_use;

  std::vector<int32_t> ids;         // the prompt and what has been generated: by the best beam
  std::optional<Sampler> sampler;   // this, or ...
  std::optional<BeamSearch> beams;  // ... with width > 1, this
  std::vector<float> log_probs;     // of the generated tokens; of a beam search, once it is done
  double cumulative_log_prob = 0;   // the same
  FinishReason finish_reason = FinishReason::kNotFinished;
  bool processor_had_good = false;  // a processor got its last logits, none NaN or +infinity
  int64_t steps = 0;                // choices of tokens that led to what there is

  // The scheduler's.
  enum class Place : uint8_t { kNowhere, kWaiting, kRunning };
  Place place = Place::kNowhere;
  /// Of each line, its blocks of the KV cache.
  std::vector<std::vector<int32_t>> tables = std::vector<std::vector<int32_t>>(1);
  std::vector<int32_t> parents;  // of each line, whose table it is to take over; empty: its own
  int64_t cached = 0;            // positions of each line whose K and V are there
  int64_t context_position = 0;  // positions of its prompt in the cache, or when it left the batch
  int64_t context_done = 0;      // prompt positions whose logits have been handed out
  int64_t preemptions = 0;
  int64_t reused_blocks = 0;  // of its prompt, found in the cache
  PrefixCache::Cursor prefix = {};
  bool urgent = false;           // others have overtaken it often enough
  uint64_t admitted_before = 0;  // admissions of others until it came
  uint64_t waiting_before = 0;   // sequences that waited when it came

 private:
  void add(const SampledToken& token);
  void advance_beams();
};

/// What a beam's end is to those who asked for it; kNotFinished while it runs.
FinishReason finish_reason_of(BeamEnd end);

}  // namespace headrace
