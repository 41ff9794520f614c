#include "sampling/beam_logits.h"

#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

using Rows = std::vector<float>;

BeamHypothesis beam(std::vector<int32_t> rows) {
  BeamHypothesis made;
  made.rows = std::move(rows);
  return made;
}

TEST(BeamLogits, FollowsEachBeamFromStepToStep) {
  BeamLogits logits(2);
  logits.add(0, Rows{1, 2});
  logits.add(1, Rows{3, 4, 5, 6});
  logits.add(2, Rows{7, 8, 9, 10});
  const std::vector<BeamHypothesis> beams = {beam({0, 1, 0}), beam({0, 0})};
  const auto row = logits.row(beams[0], 1);
  EXPECT_EQ(Rows(row.begin(), row.end()), (Rows{5, 6}));
  EXPECT_EQ(logits.gather(beams), (Rows{1, 2, 5, 6, 7, 8, 1, 2, 3, 4, 0, 0}));
  EXPECT_EQ(logits.gather({}), Rows{});
}

TEST(BeamLogits, ASearchThatBeginsAnewForgetsWhatWasThere) {
  BeamLogits logits(1);
  logits.add(0, Rows{1});
  logits.add(1, Rows{2, 3});
  logits.add(0, Rows{4});
  logits.add(1, Rows{5, 6});
  const std::vector<BeamHypothesis> beams = {beam({0, 1})};
  EXPECT_EQ(logits.gather(beams), (Rows{4, 6}));
}

}  // namespace
}  // namespace headrace
