#pragma once

#include <cstdint>
#include <string>

#include "headrace/kv_flags.h"
#include "headrace/sampling_flags.h"
#include "headrace/session_flags.h"
#include "sampling/sampler.h"

namespace headrace::app {

/// Flags of `headrace summarize` (its --help describes them).
struct SummarizeFlags {
  SessionFlags session;
  std::string hf_model_dir;
  std::string tokenizer_dir;
  bool test_trt_llm = false;
  bool test_hf = false;
  int64_t batch_size = 1;
  std::string data_type = "fp32";
  int64_t max_ite = 20;  // batches
  int64_t output_len = 100;
  int64_t max_input_length = 923;
  int64_t min_input_length = 0;
  std::string eval_task = "summarize";
  bool check_accuracy = false;
  double rouge1_threshold = 15.0;
  std::string dataset_dir;
  std::string output_dir;
  bool no_add_special_tokens = false;
  bool chat = false;
  SamplingParams sampling;
  KvFlags kv;
  BeamFlags beams;  // each is scored; the best beam's score is the one that is checked
};

}  // namespace headrace::app
