#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/sampling_params.h"
#include "sampling/token_constraints.h"

namespace headrace {

/// One sequence as LogitRules look at it: prompt and output so far. A value: sequences that part
/// (beams) copy it. It keeps only what its rules look at. Confined to one thread.
class TokenHistory {
 public:
  void add(int32_t id);

  /// Tokens of prompt and output.
  int64_t length() const { return length_; }
  /// Tokens of the output.
  int64_t generated() const { return generated_; }

 private:
  friend class LogitRules;
  TokenHistory(std::span<const int32_t> prompt, bool keeps_tokens, bool keeps_counts);

  bool keeps_tokens_;
  bool keeps_counts_;
  int64_t length_;
  int64_t generated_ = 0;
  std::vector<int32_t> tokens_;
  std::unordered_map<int32_t, int32_t> counts_;
};

/// What happens to logits before a token is chosen from them, whoever chooses: steps 1, 3 and 4 of
/// SamplingParams. A function of parameters and history alone. Immutable.
class LogitRules {
 public:
  /// `end_ids` are excluded until min_length tokens have been generated. Error{kInvalidArgument}
  /// for parameters and constraints that cannot be, whatever the vocabulary.
  LogitRules(const SamplingParams& params, std::span<const int32_t> end_ids,
             TokenConstraints constraints);

  const SamplingParams& params() const { return params_; }
  const TokenConstraints& constraints() const { return constraints_; }

  /// The history of a sequence that begins with `prompt`.
  TokenHistory start(std::span<const int32_t> prompt) const;

  /// False if penalise() and exclude() would leave the logits as they are, whatever those are.
  bool changes(const TokenHistory& history) const;

  /// Adds the bias and applies the penalties to `logits` [vocab_size], which are not yet divided by
  /// the temperature: what a penalty takes off is multiplied by it instead, which is the same and
  /// spares a pass over the vocabulary. No result is NaN or above the largest float, given that no
  /// logit was. Error{kInvalidArgument} for a bias that is not [vocab_size].
  void penalise(const TokenHistory& history, std::span<float> logits) const;

  /// Sets the logits (or log probabilities) of excluded tokens to -infinity, perhaps all of them.
  void exclude(const TokenHistory& history, std::span<float> logits) const;

 private:
  bool penalises() const;
  bool excludes_end(const TokenHistory& history) const;
  void exclude_repeats(const TokenHistory& history, std::span<float> logits) const;
  void exclude_bad_words(const TokenHistory& history, std::span<float> logits) const;

  const SamplingParams params_;
  const std::vector<int32_t> end_ids_;
  const TokenConstraints constraints_;
};

/// Throws Error{kInvalidArgument} if every one of `logits` is -infinity, which is what becomes of a
/// sequence whose rules exclude every token.
void refuse_if_all_excluded(std::span<const float> logits);

}  // namespace headrace
