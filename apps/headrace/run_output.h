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

/// What one beam of one prompt, or a prompt without beams, got.
struct OutputRow {
  size_t prompt = 0;
  std::span<const int32_t> tokens = {};
  std::span<const float> log_probs = {};
  double cumulative_log_prob = 0;
  FinishReason finish_reason = FinishReason::kLength;
};

/// `beams` rows of each result, in order; those that a search did not find are empty. They point
/// into `results`.
std::vector<OutputRow> output_rows(const std::vector<GenerationResult>& results, int64_t beams);

/// Where token ids go; an empty path writes nothing.
struct TokenFiles {
  std::string csv;
  std::string npy;
};

/// Writes prompt + output ids, one row a prompt and beam, padded with `pad` to the longest prompt +
/// max_output_len. Files appear complete or not at all.
void write_token_files(FileSystem& fs, const TokenFiles& files, const std::vector<Prompt>& prompts,
                       std::span<const OutputRow> outputs, int64_t max_output_len, int32_t pad);

/// Where log probabilities go; an empty path writes nothing.
struct LogProbFiles {
  std::string all;         // [prompts, beams, max_output_len], 0 after the end
  std::string cumulative;  // [prompts, beams]
};

void write_log_prob_files(FileSystem& fs, const LogProbFiles& files,
                          std::span<const OutputRow> outputs, int64_t beams,
                          int64_t max_output_len);

/// --output_logits_npy X.npy: X_context.npy [sum of prompt lengths, vocab] and X_generation.npy
/// [prompts, beams, max_output_len, vocab], float32, zero where nothing was generated. Written
/// while the batch runs, so that memory does not grow with them, except for those of a beam search
/// until it ends; under their final names only after commit().
class LogitsFiles {
 public:
  LogitsFiles(FileSystem& fs, const std::string& path, const std::vector<Prompt>& prompts,
              int64_t beams, int64_t max_output_len, int64_t vocab_size);

  /// Rows arrive in order: all of prompt 0, then all of prompt 1, ...
  void add_context(std::span<const float> logits);
  /// Of a beam search, [lines, vocab]; what it found is told by end_beams().
  void set_generation(size_t prompt, int64_t step, std::span<const float> logits);
  void end_beams(size_t prompt, std::span<const BeamHypothesis> found);
  void commit();

 private:
  const int64_t beams_;
  const int64_t max_output_len_;
  std::vector<BeamLogits> searches_;  // by prompt; empty without beams
  NpyWriter context_;
  NpyWriter generation_;
};

}  // namespace headrace::app
