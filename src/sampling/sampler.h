#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/sampling_params.h"

namespace headrace {

/// A chosen token and the natural logarithm of its probability in the model's own distribution,
/// before temperature, penalties and limits.
struct SampledToken {
  int32_t id = 0;
  float log_prob = 0;
};

/// Chooses the tokens of one sequence, one after the other. What it chooses is a function of the
/// parameters, the sequence so far and the logits alone: not of batch, backend or time. Confined to
/// one thread.
class Sampler {
 public:
  /// `prompt` counts for penalties and as positions of the random draws. `end_ids` are suppressed
  /// until min_length tokens have been generated. Neither is kept. Error{kInvalidArgument} for
  /// parameters that cannot be.
  explicit Sampler(const SamplingParams& params, std::span<const int32_t> prompt = {},
                   std::span<const int32_t> end_ids = {});

  /// Chooses the next token from its logits [vocab_size] and adds it to the sequence. A logit that
  /// is NaN or +infinity is an Error{kInvalidArgument} naming its token; -infinity excludes a
  /// token.
  SampledToken sample(std::span<const float> logits);

  /// How many of the likeliest tokens are enough to choose the next one from; 0 if it takes all
  /// logits.
  int64_t best_needed() const;
  /// sample() from the best_needed() likeliest tokens, the largest logit first, and of equal ones
  /// the smaller id; `log_sum` is ln(sum of exp(logit - the largest logit)) over all tokens.
  /// Error{kInvalidArgument} if that is not a number: there was a NaN or +infinity among the
  /// logits.
  SampledToken sample_best(std::span<const int32_t> ids, std::span<const float> logits,
                           float log_sum);

  /// Tokens chosen so far.
  int64_t generated() const { return generated_; }
  /// Sum of their log probabilities.
  double cumulative_log_prob() const { return cumulative_log_prob_; }

 private:
  bool penalised() const;
  void add(const SampledToken& token);
  bool suppresses_end() const { return generated_ < params_.min_length && !end_ids_.empty(); }
  std::span<const float> adjust(std::span<const float> logits);
  int32_t draw(std::span<const float> logits, float maximum);
  size_t draw_from_all(std::span<const float> logits, float maximum, double random) const;
  int32_t draw_from_nucleus(std::span<const float> logits, float maximum, double random);
  size_t draw_from_sorted(std::span<const float> logits, double random) const;
  bool nucleus() const { return params_.top_p > 0 && params_.top_p < 1; }
  double weight(float logit, float maximum) const;

  const SamplingParams params_;
  const bool greedy_;
  std::vector<int32_t> end_ids_;
  uint64_t position_ = 0;  // tokens of prompt and output
  int64_t generated_ = 0;
  double cumulative_log_prob_ = 0;
  std::unordered_map<int32_t, int32_t> counts_;  // kept only if there is a penalty
  std::vector<float> adjusted_;                  // scratch: logits after penalties
  std::vector<int32_t> order_;                   // scratch: token ids, the most likely first
  std::vector<float> best_;                      // scratch: logits in that order
};

}  // namespace headrace
