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

PassUse use_of(uint32_t body, size_t count) {
  return {.requests = std::vector<TransferRequest>(count), .body = body};
}

TEST(PassOrderTest, StopsBeforeTheHeadUntilThePassIsKnown) {
  const PassUse use = use_of(2, 3);
  PassOrder order(2, false);
  EXPECT_EQ(drain(order), (Steps{{0, 0}, {0, 1}}));
  order.begin_pass(use, true);
  EXPECT_EQ(drain(order), (Steps{{0, 2}, {1, 0}, {1, 1}}));
  order.begin_pass(use, false);
  EXPECT_EQ(drain(order), (Steps{{2, 0}, {2, 1}}));
}

TEST(PassOrderTest, StopsWhereUsesDiffer) {
  const PassUse small = use_of(2, 3);
  const PassUse large = use_of(4, 5);
  PassOrder order(1, false);
  EXPECT_EQ(drain(order), (Steps{{0, 0}}));
  order.begin_pass(large, true);
  EXPECT_EQ(drain(order), (Steps{{0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 0}}));
  order.begin_pass(small, false);
  EXPECT_EQ(drain(order), (Steps{{1, 1}, {2, 0}}));
  order.begin_pass(small, true);
  EXPECT_EQ(drain(order), (Steps{{2, 1}, {2, 2}, {3, 0}}));
}

TEST(PassOrderTest, RunsOnWhereAllPassesAreTheSame) {
  PassOrder order(2, true);
  EXPECT_EQ(drain(order, 5), (Steps{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}}));
}

TEST(PassOrderTest, AHeadAloneWaitsForEveryPass) {
  const PassUse use = use_of(0, 1);
  PassOrder order(0, false);
  EXPECT_EQ(drain(order), Steps{});
  order.begin_pass(use, false);
  EXPECT_EQ(drain(order), Steps{});
  order.begin_pass(use, true);
  EXPECT_EQ(drain(order), (Steps{{1, 0}}));
}

TEST(PassOrderTest, NothingStreams) {
  PassOrder order(0, true);
  order.begin_pass(use_of(0, 0), true);
  EXPECT_FALSE(order.has_next());
}

TEST(PassOrderTest, SkipsTheRestOfAPass) {
  PassOrder order(3, false);
  order.begin_pass(use_of(3, 4), true);
  EXPECT_EQ(drain(order, 2), (Steps{{0, 0}, {0, 1}}));
  order.skip_to_next_pass();
  EXPECT_EQ(drain(order), (Steps{{1, 0}, {1, 1}, {1, 2}}));
  order.skip_to_next_pass();  // already there
  EXPECT_EQ(drain(order), Steps{});
}

}  // namespace
}  // namespace headrace
