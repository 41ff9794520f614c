#include "headrace/bench_presets.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace::app {
namespace {

using headrace::testing::expect_error;

/// Parameters of all matrices, the embedding included.
int64_t parameters(const ModelConfig& m) {
  const int64_t layer = m.hidden_size * (m.qkv_size() + m.q_size() + 3 * m.intermediate_size);
  return m.num_hidden_layers * layer + 2 * m.vocab_size * m.hidden_size;
}

// The counts that the papers state: 6.7, 13.0, 32.5 and 69 billion.
TEST(BenchPresets, HaveTheSizesOfTheirModels) {
  EXPECT_NEAR(static_cast<double>(parameters(find_bench_preset("llama_7b", DType::kFloat16).model)),
              6.7e9, 0.05e9);
  EXPECT_NEAR(
      static_cast<double>(parameters(find_bench_preset("llama_13b", DType::kFloat16).model)),
      13.0e9, 0.05e9);
  EXPECT_NEAR(
      static_cast<double>(parameters(find_bench_preset("llama_30b", DType::kFloat16).model)),
      32.5e9, 0.05e9);
  EXPECT_NEAR(
      static_cast<double>(parameters(find_bench_preset("llama_70b", DType::kFloat16).model)),
      69.0e9, 0.05e9);
}

TEST(BenchPresets, CanStream) {
  const BenchPreset preset = find_bench_preset("llama_15m", DType::kBFloat16);
  EXPECT_EQ(preset.model.dtype, DType::kBFloat16);
  EXPECT_TRUE(preset.build.weight_streaming);
  validate_model_config(preset.model, "preset");
}

TEST(BenchPresets, OthersAreNamed) {
  const auto refuse = [](const char* name, const std::string& part) {
    expect_error(ErrorCode::kUnsupported, part, [&] { find_bench_preset(name, DType::kFloat16); });
  };
  refuse("opt_30b",
         "[bench] preset 'opt_30b' is of the OPT family, which is not there yet: use llama_7b, ");
  refuse("gpt_350m", "the GPT family");
  refuse("gptj_6b", "the GPT-J family");
  refuse("gptneox_20b", "the GPT-NeoX family");
  refuse("chatglm2_6b", "the ChatGLM family");
  refuse("mbart_large_50", "the BART family");
  refuse("lama", "[bench] there is no preset 'lama': use llama_7b, llama_13b");
  refuse("", "there is no preset ''");
}

}  // namespace
}  // namespace headrace::app
