#include "headrace/bench_report.h"

#include <numeric>

#include "base/error.h"
#include "tensor/dtype.h"

namespace headrace::app {
namespace {

std::string decimal(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }

/// 0.3, 1.0: as Python prints them.
std::string percent_text(double percent) {
  const std::string text = fmt::format("{}", percent);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

template <typename F>
std::string join(const BenchColumns& columns, const char* separator, F&& part) {
  std::string line;
  for (const auto& column : columns) {
    if (!line.empty()) line += separator;
    line += part(column);
  }
  return line;
}

}  // namespace

double BenchResult::mean_latency_ms() const {
  HR_CHECK(!latencies_ms.empty());
  return std::accumulate(latencies_ms.begin(), latencies_ms.end(), 0.0) /
         static_cast<double>(latencies_ms.size());
}

double BenchResult::tokens_per_second() const {
  return static_cast<double>(batch_size * length.output) / (mean_latency_ms() / 1e3);
}

BenchColumns bench_columns(const std::string& model_name, const ModelConfig& model,
                           const BenchResult& result) {
  const double generation_rate =
      result.generation_ms > 0
          ? static_cast<double>(result.generated_tokens) / (result.generation_ms / 1e3)
          : 0;
  return {
      {"model_name", model_name},
      {"world_size", "1"},
      {"num_heads", std::to_string(model.num_attention_heads)},
      {"num_kv_heads", std::to_string(model.num_key_value_heads)},
      {"num_layers", std::to_string(model.num_hidden_layers)},
      {"hidden_size", std::to_string(model.hidden_size)},
      {"vocab_size", std::to_string(model.vocab_size)},
      {"precision", std::string(dtype_name(model.dtype))},
      {"batch_size", std::to_string(result.batch_size)},
      {"gpu_weights_percent", percent_text(result.percent)},
      {"input_length", std::to_string(result.length.input)},
      {"output_length", std::to_string(result.length.output)},
      {"gpu_peak_mem(gb)", decimal(result.peak_memory_gb, 3)},
      {"build_time(s)", decimal(result.build_seconds, 2)},
      {"tokens_per_sec", decimal(result.tokens_per_second(), 2)},
      {"percentile95(ms)", decimal(percentile(result.latencies_ms, 95), 3)},
      {"percentile99(ms)", decimal(percentile(result.latencies_ms, 99), 3)},
      {"latency(ms)", decimal(result.mean_latency_ms(), 3)},
      {"compute_cap", result.compute_capability},
      {"quantization", "None"},
      {"generation_time(ms)", decimal(result.generation_ms, 3)},
      {"total_generated_tokens", std::to_string(result.generated_tokens)},
      {"generation_tokens_per_second", decimal(generation_rate, 2)},
      {"link_gb_per_s", decimal(result.link_gb_per_s, 3)},
      {"link_share", decimal(result.link_share, 3)},
      {"weights_mem(gb)", decimal(result.weights_memory_gb, 3)},
      {"predicted_latency(ms)", decimal(result.predicted_latency_ms, 3)},
  };
}

std::string csv_header(const BenchColumns& columns) {
  return join(columns, ",", [](const auto& column) { return column.first; });
}

std::string csv_row(const BenchColumns& columns) {
  return join(columns, ",", [](const auto& column) { return column.second; });
}

std::string benchmark_line(const BenchColumns& columns) {
  return "[BENCHMARK] " +
         join(columns, " ", [](const auto& column) { return column.first + " " + column.second; });
}

std::string csv_file_name(const std::string& model_name, const ModelConfig& model) {
  return fmt::format("{}_{}_tp1_cpu_sm0.csv", model_name, dtype_name(model.dtype));
}

}  // namespace headrace::app
