#include "headrace/bench_cases.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace::app {
namespace {

using headrace::testing::expect_error;

TEST(BenchLists, Counts) {
  EXPECT_EQ(parse_counts("8", "--batch_size"), std::vector<int64_t>{8});
  EXPECT_EQ(parse_counts("1; 32 ;4", "--batch_size"), (std::vector<int64_t>{1, 32, 4}));
  for (const char* bad : {"", "a", "1,2", "1;", "1.5", "0x8", "99999999999999999999"}) {
    expect_error(ErrorCode::kUsage, "--batch_size", [&] { parse_counts(bad, "--batch_size"); });
  }
  for (const char* bad : {"0", "-1", "1;0", "4294967296"}) {
    expect_error(ErrorCode::kInvalidArgument, "--batch_size",
                 [&] { parse_counts(bad, "--batch_size"); });
  }
}

TEST(BenchLists, Lengths) {
  const auto lengths = parse_lengths("256,32;128, 20");
  ASSERT_EQ(lengths.size(), 2u);
  EXPECT_EQ(lengths[0].input, 256);
  EXPECT_EQ(lengths[0].output, 32);
  EXPECT_EQ(lengths[1].input, 128);
  EXPECT_EQ(lengths[1].output, 20);
  for (const char* bad : {"", "128", "128,20,3", "128;20", "a,b"}) {
    expect_error(ErrorCode::kUsage, "--input_output_len", [&] { parse_lengths(bad); });
  }
  expect_error(ErrorCode::kInvalidArgument, "use 1 or more", [] { parse_lengths("0,20"); });
}

TEST(BenchLists, Percents) {
  EXPECT_EQ(parse_percents("0.0;0.3;1.0;1"), (std::vector<double>{0, 0.3, 1, 1}));
  for (const char* bad : {"-0.1", "1.1", "nan", "0.5;inf"}) {
    expect_error(ErrorCode::kInvalidArgument,
                 "--gpu_weights_percent only accepts values between 0.0 and 1.0.",
                 [&] { parse_percents(bad); });
  }
  for (const char* bad : {"", "abc", "0,5", "0.5;"}) {
    expect_error(ErrorCode::kUsage, "--gpu_weights_percent", [&] { parse_percents(bad); });
  }
}

TEST(BenchCases, SkipsWhatTheEngineCannotRun) {
  BuildConfig engine;
  engine.max_batch_size = 8;
  engine.max_input_len = 100;
  engine.max_seq_len = 110;
  EXPECT_FALSE(too_many(8, engine));
  EXPECT_EQ(too_many(9, engine), "batch_size 9 skipped: the engine's max_batch_size is 8");
  EXPECT_FALSE(too_long({.input = 100, .output = 10}, engine));
  EXPECT_TRUE(too_long({.input = 101, .output = 1}, engine));
  EXPECT_TRUE(too_long({.input = 100, .output = 11}, engine));
}

// Expected values: numpy.percentile of the same lists.
TEST(Percentile, InterpolatesBetweenRanks) {
  EXPECT_DOUBLE_EQ(percentile({7}, 95), 7);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 95), 9.55);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 99), 9.91);
  EXPECT_DOUBLE_EQ(percentile({1, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(percentile({1, 2}, 100), 2);
}

}  // namespace
}  // namespace headrace::app
