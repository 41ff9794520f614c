#include "sampling/token_constraints.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace headrace {
namespace {

void validate_words(const char* name, std::span<const TokenWord> words, int64_t vocab_size) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].empty()) {
      fail(ErrorCode::kInvalidArgument, "[sampling] {}[{}] is empty: give one token id or more",
           name, i);
    }
    for (const int32_t id : words[i]) {
      if (id >= 0 && (vocab_size == 0 || id < vocab_size)) continue;
      const int64_t size =
          vocab_size == 0 ? int64_t{std::numeric_limits<int32_t>::max()} : vocab_size;
      fail(ErrorCode::kInvalidArgument,
           "[sampling] {}[{}] holds token id {}, which is not in the vocabulary: use 0 to {}", name,
           i, id, size - 1);
    }
  }
}

void validate_bias(std::span<const float> bias, int64_t vocab_size) {
  if (!bias.empty() && vocab_size != 0 && bias.size() != static_cast<size_t>(vocab_size)) {
    fail(ErrorCode::kInvalidArgument,
         "[sampling] embedding_bias has {} values: give one a token of the vocabulary, {}, or none",
         bias.size(), vocab_size);
  }
  for (size_t i = 0; i < bias.size(); ++i) {
    if (bias[i] < std::numeric_limits<float>::infinity()) continue;
    fail(ErrorCode::kInvalidArgument,
         "[sampling] embedding_bias[{}] is {}: use a finite number, or -infinity to exclude the "
         "token",
         i, std::isnan(bias[i]) ? "not a number" : "infinite");
  }
}

}  // namespace

void validate_token_constraints(const TokenConstraints& constraints, int64_t vocab_size) {
  validate_words("bad_words", constraints.bad_words, vocab_size);
  validate_words("stop_words", constraints.stop_words, vocab_size);
  validate_bias(constraints.embedding_bias, vocab_size);
}

bool ends_with_word(std::span<const int32_t> tokens, std::span<const TokenWord> words) {
  return std::ranges::any_of(words, [tokens](const TokenWord& word) {
    return !word.empty() && word.size() <= tokens.size() &&
           std::ranges::equal(tokens.last(word.size()), word);
  });
}

}  // namespace headrace
