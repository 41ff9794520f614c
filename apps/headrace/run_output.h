#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "executor/session.h"
#include "headrace/prompts.h"
#include "sampling/beam_logits.h"
#include "tensor/npy.h"

namespace headrace::app {

/// What comes of each prompt: the first `each` beams of a search, or as many results.
struct OutputShape {
  int64_t each = 1;
  bool searches = false;
};

/// One output of a prompt.
struct OutputRow {
  size_t prompt = 0;
  std::span<const int32_t> tokens = {};
  std::span<const float> log_probs = {};
  double cumulative_log_prob = 0;
  FinishReason finish_reason = FinishReason::kLength;
};

/// The rows of all prompts, in order; those that a search did not find are empty. They point into
/// `results`.
std::vector<OutputRow> output_rows(const std::vector<GenerationResult>& results,
                                   const OutputShape& shape);

/// Where token ids go; an empty path writes nothing.
struct TokenFiles {
  std::string csv;
  std::string npy;
};

/// Writes prompt + output ids, one row an output, padded with `pad` to the longest prompt +
/// max_output_len. Files appear complete or not at all.
void write_token_files(FileSystem& fs, const TokenFiles& files, const std::vector<Prompt>& prompts,
                       std::span<const OutputRow> outputs, int64_t max_output_len, int32_t pad);

/// Where log probabilities go; an empty path writes nothing.
struct LogProbFiles {
  std::string all;         // [prompts, outputs of each, max_output_len], 0 after the end
  std::string cumulative;  // [prompts, outputs of each]
};

void write_log_prob_files(FileSystem& fs, const LogProbFiles& files,
                          std::span<const OutputRow> outputs, int64_t outputs_each,
                          int64_t max_output_len);

/// --output_logits_npy X.npy: X_context.npy [sum of prompt lengths, vocab] and X_generation.npy
/// [prompts, outputs of each, max_output_len, vocab], float32, zero where nothing was generated.
/// Written while the batch runs, so that memory does not grow with them, except for those of a beam
/// search until it ends; under their final names only after commit().
class LogitsFiles {
 public:
  LogitsFiles(FileSystem& fs, const std::string& path, const std::vector<Prompt>& prompts,
              const OutputShape& shape, int64_t max_output_len, int64_t vocab_size);

  /// Rows arrive in order: all of request 0, then all of request 1, ...; a prompt's first request
  /// counts.
  void add_context(size_t request, std::span<const float> logits);
  /// Of a beam search, [lines, vocab]; what it found is told by end_beams().
  void set_generation(size_t request, int64_t step, std::span<const float> logits);
  void end_beams(size_t prompt, std::span<const BeamHypothesis> found);
  void commit();

 private:
  const OutputShape shape_;
  const int64_t max_output_len_;
  std::vector<BeamLogits> searches_;  // by prompt; empty without beams
  NpyWriter context_;
  NpyWriter generation_;
};

}  // namespace headrace::app
