#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/logit_rules.h"
#include "sampling/sampling_params.h"
#include "sampling/token_constraints.h"

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
  /// `prompt` counts for penalties, n-grams and bad words, and as positions of the random draws.
  /// `end_ids` are excluded until min_length tokens have been generated. Spans are not kept.
  /// Stop words are the caller's to look for (ends_with_word()). Error{kInvalidArgument} for
  /// parameters that cannot be; what only the size of the vocabulary tells
  /// (validate_token_constraints()) is for the caller to check.
  explicit Sampler(const SamplingParams& params, std::span<const int32_t> prompt = {},
                   std::span<const int32_t> end_ids = {}, TokenConstraints constraints = {});

  /// Chooses the next token from its logits [vocab_size] and adds it to the sequence. A logit that
  /// is NaN or +infinity is an Error{kInvalidArgument} naming its token; -infinity excludes a
  /// token. If nothing is left to choose from, that is an Error{kInvalidArgument} too, and the
  /// sequence stays as it was: its tokens so far are good.
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
  int64_t generated() const { return history_.generated(); }
  /// Sum of their log probabilities.
  double cumulative_log_prob() const { return cumulative_log_prob_; }

 private:
  const SamplingParams& params() const { return rules_.params(); }
  void add(const SampledToken& token);
  std::span<const float> adjust(std::span<const float> logits);
  double random() const;
  int32_t draw(std::span<const float> logits, float maximum);
  size_t draw_from_all(std::span<const float> logits, float maximum) const;
  int32_t draw_from_nucleus(std::span<const float> logits, float maximum);
  size_t draw_from_sorted(std::span<const float> logits) const;
  bool nucleus() const { return top_p_ < 1; }
  double weight(float logit, float maximum) const;
  double drawn_weight(float logit, float maximum) const;

  const LogitRules rules_;
  const bool greedy_;
  TokenHistory history_;
  float top_p_;  // as decayed; 1: no limit
  double cumulative_log_prob_ = 0;
  std::vector<float> adjusted_;  // scratch: logits after penalties and exclusions
  std::vector<int32_t> order_;   // scratch: token ids, the most likely first
  std::vector<float> best_;      // scratch: logits in that order
};

}  // namespace headrace
