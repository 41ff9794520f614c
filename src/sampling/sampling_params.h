#pragma once

#include <cstdint>

namespace headrace {

/// How the next token is chosen. The names, defaults and meanings are those of TensorRT-LLM.
///
/// Logits are divided by the temperature; then a token that occurs n > 0 times in prompt and output
/// has its logit divided by repetition_penalty (multiplied, if negative) and lowered by
/// presence_penalty + n * frequency_penalty. top_k keeps the k most likely tokens; of these, top_p
/// keeps the fewest whose probabilities sum to p (Holtzman et al. 2020, "nucleus"); one of the rest
/// is drawn. top_k 1, top_k 0 with top_p 0, and temperature 0 choose the most likely token
/// (greedy).
struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy
  int32_t top_k = 1;                // 0: no limit, unless top_p is 0 too
  float top_p = 0.0f;               // 0 or 1: no limit
  float repetition_penalty = 1.0f;  // above 0; 1: none
  float presence_penalty = 0.0f;    // 0: none
  float frequency_penalty = 0.0f;   // 0: none
  uint64_t random_seed = 0;         // equal seeds give equal draws at equal positions
  int32_t min_length = 0;           // no end id before so many generated tokens
};

/// Throws Error{kInvalidArgument} naming the first value that cannot be: not a number, out of
/// range.
void validate_sampling_params(const SamplingParams& params);

/// True if the most likely token is always chosen.
bool is_greedy(const SamplingParams& params);

}  // namespace headrace
