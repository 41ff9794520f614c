#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/model_config.h"
#include "headrace/bench_cases.h"

namespace headrace::app {

/// What one case measured.
struct BenchResult {
  InputOutputLength length;
  int64_t batch_size = 1;
  double percent = 1;

  std::vector<double> latencies_ms;  // one a run; at least one
  double generation_ms = 0;          // of a run: from the first token on
  int64_t generated_tokens = 0;      // of a run, in that time, by all beams
  double peak_memory_gb = 0;
  std::string compute_capability = "cpu";
  double weights_memory_gb = 0;
  double build_seconds = 0;
  double link_gb_per_s = 0;
  double link_share = 0;  // of the measured disk
  double predicted_latency_ms = 0;

  double mean_latency_ms() const;
  /// As upstream counts: a search counts once, whatever its beams.
  double tokens_per_second() const;
};

/// The columns of a report, in upstream's order, then ours.
using BenchColumns = std::vector<std::pair<std::string, std::string>>;
BenchColumns bench_columns(const std::string& model_name, const ModelConfig& model,
                           const BenchResult& result);

/// "model_name,world_size,..." and "llama,1,...".
std::string csv_header(const BenchColumns& columns);
std::string csv_row(const BenchColumns& columns);
/// "[BENCHMARK] model_name llama world_size 1 ...".
std::string benchmark_line(const BenchColumns& columns);

/// "{model}_{dtype}_tp1_cpu_sm0.csv".
std::string csv_file_name(const std::string& model_name, const ModelConfig& model);

}  // namespace headrace::app
