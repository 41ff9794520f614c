#include "headrace/builder.h"

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::TemporaryDirectory;

TEST(Builder, BuildsAnEngineThatStreams) {
  const TemporaryDirectory folder;
  const std::string checkpoint = testing::make_tiny_checkpoint({}, folder / "checkpoint");
  std::vector<std::string> warnings;
  const Builder builder([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::kWarning) warnings.emplace_back(line);
  });
  BuilderConfig config =
      builder.create_builder_config("fp16", /*strongly_typed=*/true, /*weight_streaming=*/true);
  config.build.max_input_len = 4096;
  const BuildReport report = builder.build(checkpoint, folder / "engine", config);
  EXPECT_GT(report.streamable_bytes, 0U);
  EXPECT_GT(report.file_bytes, report.streamable_bytes);
  EXPECT_EQ(warnings.size(), 1U);  // clipped to the model's 256
  const BuildConfig built = BuildConfig::from_json_file(folder / "engine/config.json");
  EXPECT_TRUE(built.weight_streaming);
  EXPECT_TRUE(built.strongly_typed);
  EXPECT_EQ(built.max_seq_len, 256);
  EXPECT_EQ(built.max_input_len, 256);
}

TEST(Builder, RefusesWhatCannotBeHonoured) {
  const TemporaryDirectory folder;
  const std::string checkpoint = testing::make_tiny_checkpoint({}, folder / "checkpoint");
  const Builder builder;
  expect_error(ErrorCode::kInvalidArgument, "the checkpoint is float16", [&] {
    builder.build(checkpoint, folder / "engine", builder.create_builder_config("float32"));
  });
  BuilderConfig plugin = builder.create_builder_config("auto", false, true);
  plugin.build.plugins.gemm_plugin = "float16";
  expect_error(ErrorCode::kInvalidArgument, "--gemm_plugin disable",
               [&] { builder.build(checkpoint, folder / "engine", plugin); });
  EXPECT_FALSE(std::filesystem::exists(folder / "engine/config.json"));
}

}  // namespace
}  // namespace headrace
