#pragma once

#include <string>
#include <vector>

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
  std::string end_id;  // empty: the model's; -1: never stop early
  std::vector<std::string> stop_words;
  bool streaming = false;
  int64_t streaming_interval = 5;
  bool chat = false;
  bool interactive = false;
  bool json = false;
};

}  // namespace headrace::app
