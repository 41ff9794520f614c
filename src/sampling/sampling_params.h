#pragma once

#include <cstdint>

namespace headrace {

/// How the next token is chosen. The names, defaults and meanings are those of TensorRT-LLM;
/// vectors are in TokenConstraints. These are applied in this order (TensorRT-LLM's up to the
/// exclusions, Hugging Face's after them):
///
/// 1. embedding_bias is added to the logits.
/// 2. They are divided by the temperature.
/// 3. A token that occurs n > 0 times in prompt and output has its logit divided by
///    repetition_penalty (multiplied, if negative), then lowered by
///    presence_penalty + n * frequency_penalty.
/// 4. Tokens are excluded: end ids before min_length; those that would complete an n-gram of
///    no_repeat_ngram_size tokens which occurs in prompt and output already; those that would
///    complete a bad word.
/// 5. top_k keeps the k most likely tokens; of these, top_p keeps the fewest whose probabilities
/// sum
///    to p (Holtzman et al. 2020, "nucleus"); of these, min_p keeps those whose probability is at
///    least min_p times that of the most likely (Nguyen et al. 2024, "min-p"). One of the rest is
///    drawn.
///
/// top_k 1, top_k 0 with top_p 0, and temperature 0 choose the most likely token (greedy).
///
/// After each generated token top_p is multiplied by top_p_decay, but does not fall below
/// top_p_min; top_p_reset_id brings it back to where it began (Lee et al. 2022, "factual nucleus").
struct SamplingParams {
  float temperature = 1.0f;          // 0: greedy
  int32_t top_k = 1;                 // 0: no limit, unless top_p is 0 too
  float top_p = 0.0f;                // 0 or 1: no limit
  float repetition_penalty = 1.0f;   // above 0; 1: none
  float presence_penalty = 0.0f;     // 0: none
  float frequency_penalty = 0.0f;    // 0: none
  uint64_t random_seed = 0;          // equal seeds give equal draws at equal positions
  int32_t min_length = 0;            // no end id before so many generated tokens
  int32_t no_repeat_ngram_size = 0;  // 0: off
  float min_p = 0.0f;                // 0 to 1; 0: no limit
  float top_p_decay = 1.0f;          // above 0, up to 1; 1: none
  float top_p_min = 1e-6f;           // above 0, up to 1
  int32_t top_p_reset_id = -1;       // -1: none
};

/// Throws Error{kInvalidArgument} naming the first value that cannot be: not a number, out of
/// range.
void validate_sampling_params(const SamplingParams& params);

/// True if the most likely token is always chosen.
bool is_greedy(const SamplingParams& params);

}  // namespace headrace
