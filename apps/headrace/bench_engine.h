#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "engine/synthetic.h"
#include "headrace/bench_cases.h"
#include "headrace/bench_presets.h"

namespace headrace::app {

/// Which engine a benchmark runs: one that exists, or one of a preset's shape and random weights.
struct BenchEngineFlags {
  std::string engine_dir;  // this one ...
  std::string model;       // ... or this preset
  std::string dtype;       // of the preset's engine; empty: float16
  std::string output_dir;  // build the preset's engine here; empty: weights are made up as needed
  int64_t num_beams = 1;   // that the preset's engine is to have
  std::optional<int64_t> max_batch_size;
  std::optional<int64_t> max_input_len;
  std::optional<int64_t> max_seq_len;
  std::optional<int64_t> max_num_tokens;
  std::string tile_bytes;      // as in "1M"; empty: the default
  std::string tile_codec;      // empty: the default
  std::string canonical_rows;  // a number or "all"; empty: the default
};

/// The engine of a benchmark.
class BenchEngine {
 public:
  /// Finds, lays out or builds it. A preset's limits are raised to what the cases need, so long as
  /// its model can; limits among the flags are taken as they are. Error{kUsage} unless exactly one
  /// of engine_dir and model is given.
  BenchEngine(const BenchEngineFlags& flags, const std::vector<int64_t>& batch_sizes,
              const std::vector<InputOutputLength>& lengths, Context& context);

  std::string directory;                   // of an engine that exists or was built
  std::optional<SyntheticSpec> synthetic;  // of any other
  std::string model_name;
  ModelConfig model;
  BuildConfig build;
  double build_seconds = 0;

 private:
  void open(const BenchEngineFlags& flags, Context& context);
  void make(const BenchEngineFlags& flags, const BenchPreset& preset, Context& context);
};

/// The limits that a preset's engine is built with.
BuildConfig preset_build_config(const BenchPreset& preset, const BenchEngineFlags& flags,
                                const std::vector<int64_t>& batch_sizes,
                                const std::vector<InputOutputLength>& lengths);

/// "llama" for LlamaForCausalLM.
std::string family_name(const std::string& architecture);

}  // namespace headrace::app
