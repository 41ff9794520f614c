#include "sampling/logit_rules.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace headrace {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

/// Ids come from outside: those that the vocabulary does not have are nobody's logit.
float* logit_of(std::span<float> logits, int32_t id) {
  return id >= 0 && static_cast<size_t>(id) < logits.size() ? &logits[static_cast<size_t>(id)]
                                                            : nullptr;
}

void exclude_token(std::span<float> logits, int32_t id) {
  if (float* logit = logit_of(logits, id)) *logit = kExcluded;
}

}  // namespace

TokenHistory::TokenHistory(std::span<const int32_t> prompt, bool keeps_tokens, bool keeps_counts)
    : keeps_tokens_(keeps_tokens),
      keeps_counts_(keeps_counts),
      length_(static_cast<int64_t>(prompt.size())) {
  if (keeps_tokens_) tokens_.assign(prompt.begin(), prompt.end());
  if (!keeps_counts_) return;
  for (const int32_t id : prompt) ++counts_[id];
}

void TokenHistory::add(int32_t id) {
  ++length_;
  ++generated_;
  if (keeps_tokens_) tokens_.push_back(id);
  if (keeps_counts_) ++counts_[id];
}

LogitRules::LogitRules(const SamplingParams& params, std::span<const int32_t> end_ids,
                       TokenConstraints constraints)
    : params_((validate_sampling_params(params), params)),
      end_ids_(end_ids.begin(), end_ids.end()),
      constraints_((validate_token_constraints(constraints), std::move(constraints))) {}

TokenHistory LogitRules::start(std::span<const int32_t> prompt) const {
  return {prompt, params_.no_repeat_ngram_size > 0 || !constraints_.bad_words.empty(), penalises()};
}

bool LogitRules::penalises() const {
  return params_.repetition_penalty != 1 || params_.presence_penalty != 0 ||
         params_.frequency_penalty != 0;
}

bool LogitRules::excludes_end(const TokenHistory& history) const {
  return history.generated() < params_.min_length && !end_ids_.empty();
}

bool LogitRules::changes(const TokenHistory& history) const {
  return penalises() || excludes_end(history) || params_.no_repeat_ngram_size > 0 ||
         !constraints_.bad_words.empty() || !constraints_.embedding_bias.empty();
}

void LogitRules::penalise(const TokenHistory& history, std::span<float> logits) const {
  const std::vector<float>& bias = constraints_.embedding_bias;
  if (!bias.empty()) {
    if (bias.size() != logits.size()) {
      fail(ErrorCode::kInvalidArgument,
           "[sampling] embedding_bias has {} values: give one a token of the vocabulary, {}, or "
           "none",
           bias.size(), logits.size());
    }
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::min(logits[i] + bias[i], kLargest);
  }
  const float scale = params_.temperature == 0 ? 1.0f : params_.temperature;
  for (const auto& [id, count] : history.counts_) {
    float* const logit = logit_of(logits, id);
    if (logit == nullptr || *logit == kExcluded) continue;
    const float repeated =
        *logit < 0 ? *logit * params_.repetition_penalty : *logit / params_.repetition_penalty;
    const float taken =
        scale * (params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count));
    // Two infinities of one sign would be NaN.
    *logit = std::min(std::clamp(repeated, -kLargest, kLargest) - taken, kLargest);
  }
}

void LogitRules::exclude(const TokenHistory& history, std::span<float> logits) const {
  if (excludes_end(history)) {
    for (const int32_t id : end_ids_) exclude_token(logits, id);
  }
  if (params_.no_repeat_ngram_size > 0) exclude_repeats(history, logits);
  exclude_bad_words(history, logits);
}

void LogitRules::exclude_repeats(const TokenHistory& history, std::span<float> logits) const {
  const std::span<const int32_t> tokens = history.tokens_;
  const auto before = static_cast<size_t>(params_.no_repeat_ngram_size - 1);
  if (tokens.size() <= before) return;
  const std::span<const int32_t> latest = tokens.last(before);
  for (size_t i = 0; i + before < tokens.size(); ++i) {
    if (!std::ranges::equal(tokens.subspan(i, before), latest)) continue;
    exclude_token(logits, tokens[i + before]);
  }
}

void LogitRules::exclude_bad_words(const TokenHistory& history, std::span<float> logits) const {
  const std::span<const int32_t> tokens = history.tokens_;
  for (const TokenWord& word : constraints_.bad_words) {
    const std::span<const int32_t> before = std::span(word).first(word.size() - 1);
    if (before.size() > tokens.size()) continue;
    if (std::ranges::equal(tokens.last(before.size()), before)) exclude_token(logits, word.back());
  }
}

void refuse_if_all_excluded(std::span<const float> logits) {
  if (std::ranges::any_of(logits, [](float logit) { return logit > kExcluded; })) return;
  fail(ErrorCode::kInvalidArgument,
       "[sampling] all {} tokens are excluded: loosen bad_words, no_repeat_ngram_size, min_length "
       "or embedding_bias",
       logits.size());
}

}  // namespace headrace
