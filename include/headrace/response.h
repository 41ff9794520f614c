#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headrace {

/// Why a sequence has ended.
enum class FinishReason {
  kNotFinished,
  kLength,     // as many tokens as were asked for
  kEndId,      // it generated an end id
  kStopped,    // it generated a stop word, or an observer had enough
  kTimedOut,   // its deadline passed
  kCancelled,  // cancel()
};

/// Logits as they came from the model, after a logits processor's changes. values is
/// [rows, vocab_size], or [beams, rows, vocab_size], float32.
struct Logits {
  int64_t rows = 0;
  int64_t vocab_size = 0;
  std::vector<float> values;
};

/// What one response tells of one sequence of a request (or of all its beams). Vectors over beams
/// have one element without a beam search; with one the best beam comes first, and there are fewer
/// than asked for if exclusions left fewer, or before the first tokens.
struct Result {
  bool is_final = false;           // nothing more comes for this request
  int32_t sequence_index = 0;      // which of num_return_sequences
  bool is_sequence_final = false;  // nothing more comes for this sequence
  /// By beam. Streaming: the new tokens alone (or all generated so far, if asked for). Otherwise
  /// the prompt, unless it is excluded, and all that was generated.
  std::vector<std::vector<int32_t>> tokens = {};
  /// By beam; empty unless asked for. Of beams divided by length, unless
  /// ExecutorOptions::normalize_log_probs is off.
  std::vector<float> cum_log_probs = {};
  std::vector<std::vector<float>> log_probs = {};  // by beam, of the generated tokens in `tokens`
  std::optional<Logits> context_logits = {};       // on a sequence's first response
  /// Of the tokens not told of before. Of beams on the last response alone, [beams, rows,
  /// vocab_size]: those along each beam's own path, zeros behind its end.
  std::optional<Logits> generation_logits = {};
  std::vector<FinishReason> finish_reasons = {};  // by beam
  /// Steps so far that this sequence took, each of which chose a token for every beam.
  int64_t decoding_iterations = 0;
};

/// What await_responses() returns: a result, or the error that ended the request.
struct Response {
  uint64_t request_id = 0;
  std::optional<std::string> error = {};  // one line; then `result` means nothing but is_final
  Result result = {};
};

}  // namespace headrace
