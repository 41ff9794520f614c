#include "sampling/finished_beams.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

BeamHypothesis scored(float score, int32_t name) {
  BeamHypothesis hypothesis;
  hypothesis.tokens = {name};
  hypothesis.score = score;
  return hypothesis;
}

TEST(FinishedBeams, ScoresDivideByAPowerOfTheLength) {
  const auto score = [](float penalty) {
    return FinishedBeams(1, 10, penalty, EarlyStopping::kNever).score(-6, 4);
  };
  EXPECT_FLOAT_EQ(score(0), -6);
  EXPECT_FLOAT_EQ(score(1), -1.5f);
  EXPECT_FLOAT_EQ(score(0.5f), -3);
  EXPECT_FLOAT_EQ(score(-1), -24);
  EXPECT_EQ(FinishedBeams(1, 9, -1e30f, EarlyStopping::kNever).score(0, 4), 0);
  EXPECT_FALSE(std::isnan(FinishedBeams(1, 9, 1e30f, EarlyStopping::kNever).score(-1, 4)));
}

TEST(FinishedBeams, KeepsTheBest) {
  FinishedBeams beams(3, 10, 1, EarlyStopping::kNever);
  for (const auto& [score, name] : std::vector<std::pair<float, int32_t>>{
           {-3, 1}, {-2, 2}, {-3, 3}, {-4, 4}, {-2, 5}, {-3, 6}}) {
    beams.add(scored(score, name));
  }
  std::vector<int32_t> names;
  for (const BeamHypothesis& hypothesis : beams.all()) names.push_back(hypothesis.tokens[0]);
  EXPECT_EQ(names, (std::vector<int32_t>{2, 5, 1}));
}

/// Two hypotheses, the worse of -1; running beams of four tokens of ten.
TEST(FinishedBeams, SettledAsEarlyStoppingSays) {
  const auto settled = [](EarlyStopping early_stopping, float penalty, float sum) {
    FinishedBeams beams(2, 10, penalty, early_stopping);
    beams.add(scored(-0.5f, 1));
    EXPECT_FALSE(beams.settled(-100, 4)) << "one is missing";
    beams.add(scored(-1, 2));
    return beams.settled(sum, 4);
  };
  EXPECT_TRUE(settled(EarlyStopping::kWhenFull, 1, -1));
  EXPECT_FALSE(settled(EarlyStopping::kHeuristic, 1, -3.9f));
  EXPECT_TRUE(settled(EarlyStopping::kHeuristic, 1, -4));
  EXPECT_FALSE(settled(EarlyStopping::kNever, 1, -9.9f)) << "-0.99 after ten tokens";
  EXPECT_TRUE(settled(EarlyStopping::kNever, 1, -10));
  EXPECT_TRUE(settled(EarlyStopping::kNever, 0, -1)) << "length is not rewarded";
  EXPECT_FALSE(settled(EarlyStopping::kNever, -1, -0.2f));
}

}  // namespace
}  // namespace headrace
