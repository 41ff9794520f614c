#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace headrace {

/// A sequence of token ids.
using TokenWord = std::vector<int32_t>;

/// What a request asks of single tokens, beside the scalars of SamplingParams. The names and
/// meanings are those of TensorRT-LLM. Words match token by token, not as text.
struct TokenConstraints {
  std::vector<TokenWord> bad_words = {};   // never completed, by prompt and output together
  std::vector<TokenWord> stop_words = {};  // generation ends when the output ends with one
  std::vector<float> embedding_bias = {};  // [vocab_size], added to the logits; empty: none
};

/// Throws Error{kInvalidArgument} naming the first value that cannot be: an empty word, an id
/// outside [0, vocab_size), a bias of another size than vocab_size, or one that is NaN or
/// +infinity (-infinity excludes a token). `vocab_size` 0: not known yet, only what is wrong with
/// every vocabulary is refused.
void validate_token_constraints(const TokenConstraints& constraints, int64_t vocab_size = 0);

/// True if `tokens` ends with one of `words`: with the output so far and stop_words, that
/// generation ends here. The stop word stays in the output. Words that reach back into the prompt
/// do not count, nor do empty ones.
bool ends_with_word(std::span<const int32_t> tokens, std::span<const TokenWord> words);

}  // namespace headrace
