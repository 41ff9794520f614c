#pragma once

#include <optional>
#include <string>
#include <vector>

#include "headrace/kv_flags.h"
#include "headrace/sampling_flags.h"
#include "headrace/session_flags.h"
#include "sampling/sampler.h"

namespace headrace::app {

/// Flags of `headrace run` (INTERFACE.md section 5b).
struct RunFlags {
  SessionFlags session;
  std::string tokenizer_dir;
  std::vector<std::string> input_text;
  std::string input_file;
  int64_t max_output_len = 100;
  int64_t max_input_length = 0;  // 0: prompts are not cut
  std::string output_csv;
  std::string output_npy;
  std::string output_logits_npy;
  std::string output_log_probs_npy;
  std::string output_cum_log_probs_npy;
  bool run_profiling = false;
  SamplingParams sampling;
  BeamFlags beams;
  std::optional<int32_t> num_return_sequences;  // nothing: 1, or all beams
  KvFlags kv;
  std::string end_id;  // empty: the model's; -1: never stop early
  std::vector<std::string> stop_words;
  std::vector<std::string> bad_words;
  bool streaming = false;
  int64_t streaming_interval = 5;
  bool chat = false;
  bool interactive = false;
  bool json = false;

  /// Whether text is printed while it comes: not where standard output is JSON.
  bool prints_stream() const { return streaming && !json; }
  bool searches() const { return beams.num_beams > 1; }
  /// Sequences that are shown of each prompt.
  int32_t outputs_each() const { return num_return_sequences.value_or(beams.num_beams); }
  /// Requests that each prompt makes.
  int32_t requests_each() const { return searches() ? 1 : outputs_each(); }
};

}  // namespace headrace::app
