#include "stream/pass_order.h"

#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace headrace {
namespace {

using Steps = std::vector<std::pair<uint64_t, uint32_t>>;

/// (pass, request) as far as they are known, at most `limit` of them.
Steps drain(PassOrder& order, size_t limit = 20) {
  Steps steps;
  while (steps.size() < limit && order.has_next()) {
    steps.emplace_back(order.pass(), order.request());
    order.advance();
  }
  return steps;
}

TEST(PassOrderTest, StopsBeforeTheHeadUntilThePassIsKnown) {
  PassOrder order(2, 3);
  EXPECT_EQ(drain(order), (Steps{{0, 0}, {0, 1}}));
  order.begin_pass(true);
  EXPECT_EQ(drain(order), (Steps{{0, 2}, {1, 0}, {1, 1}}));
  order.begin_pass(false);
  EXPECT_EQ(drain(order), (Steps{{2, 0}, {2, 1}}));
}

TEST(PassOrderTest, RunsOnWithoutAHead) {
  PassOrder order(2, 2);
  EXPECT_EQ(drain(order, 5), (Steps{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}}));
}

TEST(PassOrderTest, AHeadAloneWaitsForEveryPass) {
  PassOrder order(0, 1);
  EXPECT_EQ(drain(order), Steps{});
  order.begin_pass(false);
  EXPECT_EQ(drain(order), Steps{});
  order.begin_pass(true);
  EXPECT_EQ(drain(order), (Steps{{1, 0}}));
}

TEST(PassOrderTest, NothingStreams) {
  PassOrder order(0, 0);
  order.begin_pass(true);
  EXPECT_FALSE(order.has_next());
}

TEST(PassOrderTest, SkipsTheRestOfAPass) {
  PassOrder order(3, 4);
  order.begin_pass(true);
  EXPECT_EQ(drain(order, 2), (Steps{{0, 0}, {0, 1}}));
  order.skip_to_next_pass();
  EXPECT_EQ(drain(order), (Steps{{1, 0}, {1, 1}, {1, 2}}));
  order.skip_to_next_pass();  // already there
  EXPECT_EQ(drain(order), Steps{});
}

}  // namespace
}  // namespace headrace
