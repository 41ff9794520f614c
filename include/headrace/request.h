#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headrace {

/// How the tokens of a request are chosen. Names, defaults and meanings are those of TensorRT-LLM.
struct SamplingOptions {
  int32_t beam_width = 1;            // beams of a beam search; 1: none
  int32_t num_return_sequences = 0;  // without beams, sequences drawn apart; with, the first beams;
                                     // 0: one, or all beams
  float temperature = 1.0f;          // 0: greedy
  int32_t top_k = 1;                 // 0: no limit, unless top_p is 0 too
  float top_p = 0.0f;                // 0 or 1: no limit
  float min_p = 0.0f;                // 0: no limit
  float top_p_decay = 1.0f;          // factor on top_p after each token; 1: none
  float top_p_min = 1e-6f;           // top_p does not decay below
  int32_t top_p_reset_id = -1;       // token that brings top_p back; -1: none
  float repetition_penalty = 1.0f;   // above 0; 1: none
  float presence_penalty = 0.0f;     // 0: none
  float frequency_penalty = 0.0f;    // 0: none
  int32_t no_repeat_ngram_size = 0;  // 0: off
  int32_t min_length = 0;            // no end id before so many generated tokens
  uint64_t random_seed = 0;          // equal seeds give equal draws at equal positions
  /// Of beam search: sums are divided by length^length_penalty before they are compared.
  float length_penalty = 0.0f;
  /// Of beam search. 1: it ends when there are beam_width complete outputs; 0: when besides no
  /// running beam would beat them if it ended; others: when none can beat them any more.
  int32_t early_stopping = 1;
  /// Of beam search: added times its place to what is compared of a beam's continuations.
  float beam_search_diversity_rate = 0.0f;
};

/// What a response holds beside tokens.
struct OutputOptions {
  bool log_probs = false;          // natural logarithms, by token and summed
  bool context_logits = false;     // of every prompt position
  bool generation_logits = false;  // those that each token was chosen from
  bool exclude_input = false;      // leave the prompt out of Result::tokens
  bool exclude_end_id = false;     // leave the end id that ended a sequence out of Result::tokens
};

/// One prompt and what to make of it. A plain value; nothing is checked before it is enqueued.
struct Request {
  std::vector<int32_t> prompt;         // token ids, at least one
  int64_t max_new_tokens = 1;          // 1 or more
  bool streaming = false;              // a response for every token instead of one at the end; with
                                       // beams only if return_all_generated_tokens
  SamplingOptions sampling = {};       // how tokens are chosen
  OutputOptions output = {};           // what responses hold
  std::optional<int32_t> end_id = {};  // generating it ends a sequence; nothing: never
  std::optional<int32_t> pad_id = {};  // accepted: results are never padded
  std::vector<std::vector<int32_t>> bad_words = {};   // never completed
  std::vector<std::vector<int32_t>> stop_words = {};  // a sequence that ends with one has ended
  std::vector<float> embedding_bias = {};    // [vocab_size] added to the logits; empty: none
  std::string logits_processor = {};         // a name of ExecutorOptions; empty: none
  std::optional<uint64_t> client_id = {};    // handed to the logits processor
  float priority = 0.5f;                     // 0 to 1; larger ones are served first
  std::optional<int64_t> deadline_ms = {};   // since enqueue; then it ends with what there is
  bool return_all_generated_tokens = false;  // streaming: each response repeats the earlier tokens,
                                             // or tells all beams as they are now
};

/// The name of Request::logits_processor that means ExecutorOptions::batched_logits_processor.
inline constexpr const char* kBatchedLogitsProcessor = "batched";

}  // namespace headrace
