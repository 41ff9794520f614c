#include "engine/build_config.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;

ModelConfig small_model() {
  ModelConfig model;
  model.max_position_embeddings = 2048;
  return model;
}

BuildConfig resolve(const BuildConfig& config) {
  testing::MemoryLog log;
  return resolve_build_config(config, small_model(), log);
}

TEST(BuildConfig, DefaultsAreUpstreams) {
  const BuildConfig config = parse_build_config("{}", "f");
  EXPECT_EQ(config.max_batch_size, 256);
  EXPECT_EQ(config.max_input_len, 1024);
  EXPECT_EQ(config.max_num_tokens, 8192);
  EXPECT_EQ(config.max_beam_width, 1);
  EXPECT_EQ(config.tokens_per_block, 64);
  EXPECT_EQ(config.tile_bytes, 1048576u);
  EXPECT_EQ(config.canonical_rows, 8);
  EXPECT_EQ(config.plugins.gemm_plugin, "disable");
  EXPECT_FALSE(config.weight_streaming);
}

TEST(BuildConfig, ReadsUpstreamsKeys) {
  const BuildConfig config = parse_build_config(
      R"({"max_batch_size": 7, "max_input_len": 8, "max_seq_len": 9, "max_num_tokens": 10,
          "max_beam_width": 2, "weight_streaming": true, "strongly_typed": true, "unknown": {},
          "gather_context_logits": true, "gather_generation_logits": true, "tile_bytes": 65536,
          "canonical_rows": 8, "plugin_config": {"gemm_plugin": "float16", "context_fmha": false,
          "tokens_per_block": 32}})",
      "f");
  EXPECT_EQ(config.max_batch_size, 7);
  EXPECT_EQ(config.max_input_len, 8);
  EXPECT_EQ(config.max_seq_len, 9);
  EXPECT_EQ(config.max_num_tokens, 10);
  EXPECT_EQ(config.max_beam_width, 2);
  EXPECT_TRUE(config.weight_streaming);
  EXPECT_TRUE(config.strongly_typed);
  EXPECT_TRUE(config.gather_context_logits);
  EXPECT_TRUE(config.gather_generation_logits);
  EXPECT_EQ(config.tile_bytes, 65536u);
  EXPECT_EQ(config.canonical_rows, 8);
  EXPECT_EQ(config.plugins.gemm_plugin, "float16");
  EXPECT_FALSE(config.plugins.context_fmha);
  EXPECT_EQ(config.tokens_per_block, 32);
}

TEST(BuildConfig, SurvivesARoundTrip) {
  BuildConfig config;
  config.max_batch_size = 3;
  config.max_seq_len = 77;
  config.weight_streaming = true;
  config.gather_generation_logits = true;
  config.tokens_per_block = 5;
  config.tile_bytes = 4096;
  config.canonical_rows = 8;
  config.plugins.paged_kv_cache = false;
  config.plugins.gpt_attention_plugin = "float16";
  const BuildConfig read = parse_build_config(build_config_to_json(config), "f");
  EXPECT_EQ(read.max_batch_size, 3);
  EXPECT_EQ(read.max_seq_len, 77);
  EXPECT_TRUE(read.weight_streaming);
  EXPECT_TRUE(read.gather_generation_logits);
  EXPECT_FALSE(read.gather_context_logits);
  EXPECT_EQ(read.tokens_per_block, 5);
  EXPECT_EQ(read.tile_bytes, 4096u);
  EXPECT_EQ(read.canonical_rows, 8);
  EXPECT_FALSE(read.plugins.paged_kv_cache);
  EXPECT_EQ(read.plugins.gpt_attention_plugin, "float16");
}

TEST(BuildConfig, WrongTypesAndAbsurdValuesAreErrorsThatNameTheKey) {
  for (const char* text :
       {R"({"max_batch_size": 0})", R"({"max_batch_size": -1})", R"({"max_batch_size": 1.5})",
        R"({"max_batch_size": "7"})", R"({"max_batch_size": 1e30})",
        R"({"max_batch_size": 18446744073709551615})", R"({"max_batch_size": [1]})"}) {
    expect_error(ErrorCode::kCorrupt, "'max_batch_size'", [&] { parse_build_config(text, "f"); });
  }
  const auto expect_key = [](const char* text, const char* key) {
    expect_error(ErrorCode::kCorrupt, key, [&] { parse_build_config(text, "f"); });
  };
  expect_key(R"({"weight_streaming": 1})", "'weight_streaming'");
  expect_key(R"({"canonical_rows": "some"})", "'canonical_rows'");
  expect_key(R"({"plugin_config": 3})", "'plugin_config'");
  expect_key(R"({"plugin_config": {"gemm_plugin": 3}})", "'gemm_plugin'");
  expect_key("[]", "no object");
  expect_key("{", "no object");
}

TEST(ResolveBuildConfig, FillsInTheModelsLength) {
  EXPECT_EQ(resolve({}).max_seq_len, 2048);
  EXPECT_EQ(resolve({.max_seq_len = 2048}).max_seq_len, 2048);
}

TEST(ResolveBuildConfig, ClipsTheInputLengthWithAWarning) {
  testing::MemoryLog log;
  const BuildConfig config =
      resolve_build_config({.max_input_len = 600, .max_seq_len = 562}, small_model(), log);
  EXPECT_EQ(config.max_input_len, 562);
  EXPECT_EQ(log.lines_with("--max_input_len 600").size(), 1u);
}

TEST(ResolveBuildConfig, WarnsBeyondTheModelsPositions) {
  testing::MemoryLog log;
  EXPECT_EQ(resolve_build_config({.max_seq_len = 2049}, small_model(), log).max_seq_len, 2049);
  EXPECT_EQ(log.lines_with("--max_seq_len 2049").size(), 1u);
}

TEST(ResolveBuildConfig, RaisesTheTokensToOneForEverySequence) {
  testing::MemoryLog log;
  const BuildConfig config =
      resolve_build_config({.max_batch_size = 100, .max_num_tokens = 99}, small_model(), log);
  EXPECT_EQ(config.max_num_tokens, 100);
  EXPECT_EQ(log.lines_with("--max_num_tokens 99").size(), 1u);
}

TEST(ResolveBuildConfig, RefusesStreamingWithAGemmPlugin) {
  BuildConfig config{.weight_streaming = true};
  EXPECT_NO_THROW(resolve(config));
  config.plugins.gemm_plugin = "float16";
  expect_error(ErrorCode::kInvalidArgument, "--gemm_plugin disable", [&] { resolve(config); });
  config.weight_streaming = false;
  EXPECT_NO_THROW(resolve(config));
  config.plugins.gemm_plugin = "cublas";
  expect_error(ErrorCode::kInvalidArgument, "--gemm_plugin cublas", [&] { resolve(config); });
}

TEST(ResolveBuildConfig, RefusesValuesBelowOneAndAbsurdOnes) {
  const auto expect_flag = [](const BuildConfig& config, const char* flag) {
    expect_error(ErrorCode::kInvalidArgument, flag, [&] { resolve(config); });
  };
  expect_flag({.max_batch_size = 0}, "--max_batch_size 0");
  expect_flag({.max_input_len = -5}, "--max_input_len -5");
  expect_flag({.max_seq_len = -1}, "--max_seq_len -1");
  expect_flag({.max_num_tokens = 0}, "--max_num_tokens 0");
  expect_flag({.max_beam_width = 5000}, "--max_beam_width 5000");
  expect_flag({.tokens_per_block = 0}, "--tokens_per_block 0");
  expect_flag({.tile_bytes = 100}, "--tile_bytes 100");
  expect_flag({.tile_bytes = uint64_t{1} << 40}, "--tile_bytes");
}

TEST(ParseCanonicalRows, TakesAllOrANumber) {
  EXPECT_EQ(parse_canonical_rows("all"), 0);
  EXPECT_EQ(parse_canonical_rows("8"), 8);
  for (const char* text : {"", "0", "-1", "8x", "ALL", "99999999999999999999"}) {
    expect_error(ErrorCode::kInvalidArgument, "--canonical_rows",
                 [&] { parse_canonical_rows(text); });
  }
}

}  // namespace
}  // namespace headrace
