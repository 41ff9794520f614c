#include "headrace/bench_engine.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace::app {
namespace {

using headrace::testing::expect_error;
using headrace::testing::TemporaryDirectory;
using headrace::testing::TestContext;

class BenchEngineTest : public ::testing::Test {
 protected:
  BenchEngine make(const BenchEngineFlags& flags, const std::vector<int64_t>& batch_sizes = {1},
                   const std::vector<InputOutputLength>& lengths = {{16, 4}}) {
    return {flags, batch_sizes, lengths, test_.context};
  }

  static BenchEngineFlags preset(const std::string& name) {
    BenchEngineFlags flags;
    flags.model = name;
    return flags;
  }

  TestContext test_;
};

TEST_F(BenchEngineTest, APresetIsMadeUp) {
  BenchEngineFlags flags = preset("llama_70b");
  flags.dtype = "bfloat16";
  const BenchEngine engine = make(flags);
  ASSERT_TRUE(engine.synthetic.has_value());
  EXPECT_TRUE(engine.directory.empty());
  EXPECT_EQ(engine.synthetic->model.num_key_value_heads, 8);
  EXPECT_EQ(engine.model.dtype, DType::kBFloat16);
  EXPECT_EQ(engine.model_name, "llama_70b");
  EXPECT_LT(engine.build_seconds, 10);
}

TEST_F(BenchEngineTest, APresetsLimitsHoldTheCases) {
  const BenchEngine small = make(preset("llama_7b"));
  EXPECT_EQ(small.build.max_batch_size, 128);
  EXPECT_EQ(small.build.max_input_len, 512);
  EXPECT_EQ(small.build.max_seq_len, 712);
  // The model has 2048 positions: what is longer is skipped later.
  const BenchEngine large = make(preset("llama_7b"), {1, 200}, {{1500, 100}, {2000, 100}});
  EXPECT_EQ(large.build.max_batch_size, 200);
  EXPECT_EQ(large.build.max_input_len, 1500);
  EXPECT_EQ(large.build.max_seq_len, 1600);
  EXPECT_TRUE(too_long({2000, 100}, large.build).has_value());
}

TEST_F(BenchEngineTest, FlagsReplaceAPresetsLimits) {
  BenchEngineFlags flags = preset("llama_7b");
  flags.max_batch_size = 2;
  flags.max_input_len = 64;
  flags.max_seq_len = 100;
  flags.max_num_tokens = 333;
  flags.tile_bytes = "2M";
  flags.canonical_rows = "8";
  const BuildConfig build = make(flags, {4}, {{80, 40}}).build;
  EXPECT_EQ(build.max_batch_size, 2);
  EXPECT_EQ(build.max_input_len, 64);
  EXPECT_EQ(build.max_seq_len, 100);
  EXPECT_EQ(build.max_num_tokens, 333);
  EXPECT_EQ(build.tile_bytes, uint64_t{2} << 20);
  EXPECT_EQ(build.canonical_rows, 8);
  EXPECT_TRUE(build.weight_streaming);
}

TEST_F(BenchEngineTest, AnOutputFolderGetsARealEngine) {
  const TemporaryDirectory folder;
  BenchEngineFlags flags = preset("llama_15m");
  flags.output_dir = folder / "engine";
  const BenchEngine engine = make(flags);
  EXPECT_FALSE(engine.synthetic.has_value());
  EXPECT_EQ(engine.directory, flags.output_dir);
  EXPECT_TRUE(posix_file_system().exists(folder / "engine/rank0.engine"));
  EXPECT_FALSE(posix_file_system().exists(folder / "engine/checkpoint"));
}

TEST_F(BenchEngineTest, AnEngineThatExistsKeepsItsLimits) {
  BenchEngineFlags flags;
  flags.engine_dir = testing::golden_path("engine_v1");
  flags.max_batch_size = 1000;
  const BenchEngine engine = make(flags);
  EXPECT_EQ(engine.directory, flags.engine_dir);
  EXPECT_EQ(engine.model_name, "llama");
  EXPECT_EQ(engine.build.max_batch_size, 4);
  EXPECT_EQ(test_.log.lines_with("built with count, not those given").size(), 1u);
}

TEST_F(BenchEngineTest, WhatCannotBeIsAnError) {
  expect_error(ErrorCode::kUsage, "--engine_dir ENGINE, or --model", [&] { make({}); });
  BenchEngineFlags both = preset("llama_7b");
  both.engine_dir = "somewhere";
  expect_error(ErrorCode::kUsage, "--engine_dir ENGINE, or --model", [&] { make(both); });
  BenchEngineFlags dtype = preset("llama_7b");
  dtype.dtype = "int3";
  expect_error(ErrorCode::kUnsupported, "--dtype", [&] { make(dtype); });
  const auto refuse = [&](const std::string& part, auto change) {
    BenchEngineFlags bad = preset("llama_7b");
    change(bad);
    expect_error(ErrorCode::kInvalidArgument, part, [&] { make(bad); });
  };
  refuse("--max_batch_size 0", [](BenchEngineFlags& f) { f.max_batch_size = 0; });
  refuse("--max_num_tokens 0", [](BenchEngineFlags& f) { f.max_num_tokens = 0; });
  refuse("--tile_bytes", [](BenchEngineFlags& f) { f.tile_bytes = "x"; });
  refuse("canonical_rows", [](BenchEngineFlags& f) { f.canonical_rows = "0"; });
}

}  // namespace
}  // namespace headrace::app
