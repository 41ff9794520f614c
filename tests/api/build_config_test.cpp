#include "headrace/build_config.h"

#include <fstream>

#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::TemporaryDirectory;

TEST(PublicBuildConfig, RoundTripsThroughJson) {
  BuildConfig config;
  config.max_batch_size = 3;
  config.weight_streaming = true;
  config.tokens_per_block = 32;
  config.canonical_rows = 0;
  config.plugins.context_fmha = false;
  EXPECT_EQ(BuildConfig::from_json(config.to_json()), config);
  EXPECT_EQ(BuildConfig::from_json("{}"), BuildConfig());
}

TEST(PublicBuildConfig, ComesFromFilesAndFromEngines) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "own.json") << R"({"max_batch_size": 5, "weight_streaming": true})";
  EXPECT_EQ(BuildConfig::from_json_file(folder / "own.json").max_batch_size, 5);
  std::ofstream(folder / "config.json") << R"({"build_config": {"max_batch_size": 6}})";
  EXPECT_EQ(BuildConfig::from_json_file(folder / "config.json").max_batch_size, 6);
  std::ofstream(folder / "bad.json") << "max_batch_size: 5";
  expect_error(ErrorCode::kCorrupt, "bad.json",
               [&] { BuildConfig::from_json_file(folder / "bad.json"); });
  expect_error(ErrorCode::kNotFound, "none.json",
               [&] { BuildConfig::from_json_file(folder / "none.json"); });
}

TEST(PublicBuildConfig, UpdateChangesWhatItNames) {
  BuildConfig config;
  config.max_beam_width = 4;
  config.update(R"({"max_seq_len": 562, "weight_streaming": true, "tokens_per_block": 16,
                    "plugin_config": {"paged_kv_cache": false}})");
  BuildConfig expected;
  expected.max_beam_width = 4;
  expected.max_seq_len = 562;
  expected.weight_streaming = true;
  expected.tokens_per_block = 16;
  expected.plugins.paged_kv_cache = false;
  EXPECT_EQ(config, expected);
}

TEST(PublicBuildConfig, UpdateRefusesWhatItDoesNotKnow) {
  BuildConfig config;
  expect_error(ErrorCode::kInvalidArgument, "'max_batch'",
               [&] { config.update(R"({"max_beam_width": 2, "max_batch": 5})"); });
  expect_error(ErrorCode::kInvalidArgument, "'bert'",
               [&] { config.update(R"({"plugin_config": {"bert": true}})"); });
  expect_error(ErrorCode::kCorrupt, "max_batch_size",
               [&] { config.update(R"({"max_batch_size": "many"})"); });
  expect_error(ErrorCode::kInvalidArgument, "object", [&] { config.update("[]"); });
  EXPECT_EQ(config, BuildConfig());
}

}  // namespace
}  // namespace headrace
