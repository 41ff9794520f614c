#include "headrace/bench_report.h"

#include <gtest/gtest.h>

namespace headrace::app {
namespace {

ModelConfig small_model() {
  ModelConfig model;
  model.dtype = DType::kBFloat16;
  model.vocab_size = 1003;
  model.hidden_size = 72;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  return model;
}

BenchResult result_of_two_runs() {
  BenchResult result;
  result.length = {.input = 256, .output = 32};
  result.batch_size = 4;
  result.percent = 0.3;
  result.latencies_ms = {100, 300};
  result.generation_ms = 124;
  result.generated_tokens = 4 * 31;
  result.peak_memory_gb = 1.5;
  result.weights_memory_gb = 0.25;
  result.build_seconds = 7;
  result.link_gb_per_s = 1.8;
  result.link_share = 0.9;
  result.predicted_latency_ms = 190;
  return result;
}

TEST(BenchReport, HeaderHasTheColumnsOfUpstreamThenOurs) {
  EXPECT_EQ(
      csv_header(bench_columns("llama", small_model(), result_of_two_runs())),
      "model_name,world_size,num_heads,num_kv_heads,num_layers,hidden_size,vocab_size,precision,"
      "batch_size,gpu_weights_percent,input_length,output_length,gpu_peak_mem(gb),build_time(s),"
      "tokens_per_sec,percentile95(ms),percentile99(ms),latency(ms),compute_cap,quantization,"
      "generation_time(ms),total_generated_tokens,generation_tokens_per_second,link_gb_per_s,"
      "link_share,weights_mem(gb),predicted_latency(ms)");
}

// 4 x 32 tokens in the mean of 200 ms are 640 tokens per second; 124 tokens in 124 ms are 1,000.
TEST(BenchReport, RowOfValues) {
  EXPECT_EQ(csv_row(bench_columns("llama", small_model(), result_of_two_runs())),
            "llama,1,4,2,3,72,1003,bfloat16,4,0.3,256,32,1.500,7.00,640.00,290.000,298.000,200.000,"
            "cpu,None,124.000,124,1000.00,1.800,0.900,0.250,190.000");
}

TEST(BenchReport, OneLineOfKeysAndValues) {
  BenchResult result = result_of_two_runs();
  result.percent = 1;
  result.generation_ms = 0;  // one output token: nothing was generated after the first
  result.generated_tokens = 0;
  const std::string line = benchmark_line(bench_columns("llama_7b", small_model(), result));
  EXPECT_TRUE(line.starts_with("[BENCHMARK] model_name llama_7b world_size 1 num_heads 4 "))
      << line;
  EXPECT_NE(line.find(" gpu_weights_percent 1.0 input_length 256 "), std::string::npos) << line;
  EXPECT_NE(line.find(" generation_tokens_per_second 0.00 link_gb_per_s 1.800 "), std::string::npos)
      << line;
}

TEST(BenchReport, NameOfTheCsvFile) {
  EXPECT_EQ(csv_file_name("llama_7b", small_model()), "llama_7b_bfloat16_tp1_cpu_sm0.csv");
}

}  // namespace
}  // namespace headrace::app
