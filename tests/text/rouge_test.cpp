#include "text/rouge.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/golden.h"

namespace headrace {
namespace {

using nlohmann::json;

void expect_score(const RougeScore& score, const json& expected, const std::string& name) {
  EXPECT_DOUBLE_EQ(score.precision, expected[0].get<double>()) << name;
  EXPECT_DOUBLE_EQ(score.recall, expected[1].get<double>()) << name;
  EXPECT_DOUBLE_EQ(score.f_measure, expected[2].get<double>()) << name;
}

TEST(Rouge, EqualsThePackage) {
  const json cases = json::parse(testing::read_file(testing::golden_path("rouge/pairs.json")));
  ASSERT_GE(cases.size(), 90u);
  for (const json& c : cases) {
    SCOPED_TRACE(c["target"].dump() + " / " + c["prediction"].dump());
    const RougeScores scores =
        rouge(c["target"].get<std::string>(), c["prediction"].get<std::string>());
    expect_score(scores.rouge1, c["rouge1"], "rouge1");
    expect_score(scores.rouge2, c["rouge2"], "rouge2");
    expect_score(scores.rouge_l, c["rougeL"], "rougeL");
    expect_score(scores.rouge_lsum, c["rougeLsum"], "rougeLsum");
  }
}

// By hand: 3 of 4 words on both sides; no pair of "police the" order survives in the second.
TEST(Rouge, WorkedExample) {
  const RougeScores scores = rouge("police killed the gunman", "the gunman kill police");
  EXPECT_DOUBLE_EQ(scores.rouge1.f_measure, 0.75);
  EXPECT_DOUBLE_EQ(scores.rouge2.f_measure, 1.0 / 3);  // "the gunman"
  EXPECT_DOUBLE_EQ(scores.rouge_l.f_measure, 0.5);
}

TEST(Rouge, BytesThatAreNotTextSeparateWords) {
  const RougeScores scores = rouge("one\xff\xfetwo", std::string("one\0two\xe2\x84", 10));
  EXPECT_DOUBLE_EQ(scores.rouge1.f_measure, 1.0);
}

TEST(RougeMean, IsThePlainMeanTimesHundred) {
  RougeMean mean;
  EXPECT_EQ(mean.rouge1(), 0);
  mean.add(
      {.rouge1 = {.f_measure = 0.5}, .rouge2 = {}, .rouge_l = {.f_measure = 1}, .rouge_lsum = {}});
  mean.add({.rouge1 = {.f_measure = 0.25},
            .rouge2 = {.f_measure = 0.5},
            .rouge_l = {},
            .rouge_lsum = {.f_measure = 0.125}});
  EXPECT_EQ(mean.samples(), 2);
  EXPECT_DOUBLE_EQ(mean.rouge1(), 37.5);
  EXPECT_DOUBLE_EQ(mean.rouge2(), 25);
  EXPECT_DOUBLE_EQ(mean.rouge_l(), 50);
  EXPECT_DOUBLE_EQ(mean.rouge_lsum(), 6.25);
}

}  // namespace
}  // namespace headrace
