#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "headrace/bench_cases.h"
#include "headrace/bench_presets.h"

namespace headrace::app {

/// Which engine a benchmark runs: one that exists, or one built of a preset's shape and random
/// weights.
struct BenchEngineFlags {
  std::string engine_dir;  // this one ...
  std::string model;       // ... or this preset
  std::string dtype;       // of the preset's engine; empty: float16
  std::string output_dir;  // where the preset's engine stays; empty: it is removed afterwards
  std::optional<int64_t> max_batch_size;
  std::optional<int64_t> max_input_len;
  std::optional<int64_t> max_seq_len;
};

/// The engine of a benchmark. A temporary one goes with the object.
class BenchEngine {
 public:
  /// Finds or builds it. A preset's limits are raised to what the cases need, so long as its model
  /// can; limits among the flags are taken as they are. Error{kUsage} unless exactly one of
  /// engine_dir and model is given.
  BenchEngine(const BenchEngineFlags& flags, const std::vector<int64_t>& batch_sizes,
              const std::vector<InputOutputLength>& lengths, Context& context);
  ~BenchEngine();
  BenchEngine(const BenchEngine&) = delete;
  BenchEngine& operator=(const BenchEngine&) = delete;

  std::string directory;
  std::string model_name;
  ModelConfig model;
  BuildConfig build;
  double build_seconds = 0;

 private:
  void build_preset(const BenchEngineFlags& flags, const BenchPreset& preset, Context& context);

  std::string temporary_;  // folder to remove; empty: none
};

/// The limits that a preset's engine is built with.
BuildConfig preset_build_config(const BenchPreset& preset, const BenchEngineFlags& flags,
                                const std::vector<int64_t>& batch_sizes,
                                const std::vector<InputOutputLength>& lengths);

/// "llama" for LlamaForCausalLM.
std::string family_name(const std::string& architecture);

}  // namespace headrace::app
