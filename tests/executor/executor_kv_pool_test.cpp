#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/executor/executor_fixture.h"
#include "tests/executor/policies.h"
#include "tests/support/error_matchers.h"

namespace headrace::testing {
namespace {

constexpr int64_t kBlocksOfRequest = 4;

/// Executors whose memory holds little KV cache beside all weights.
class ExecutorKvPoolTest : public ExecutorTest,
                           public ::testing::WithParamInterface<CapacityPolicy> {
 protected:
  ExecutorOptions tight_options() {
    ExecutorOptions some = options({.intermediate_size = 400});  // more weights for the same cache
    some.capacity_policy = GetParam();
    some.max_num_tokens = 64;
    limit_memory(some, kBlocksOfRequest);
    return some;
  }

  int64_t kv_block_tokens() {
    TestContext context;
    return Session::open(session_options(tight_options()), context.context)
        ->kv()
        .shape()
        .block_tokens;
  }

  /// Of 60 positions in the end.
  static std::vector<Request> requests() {
    std::vector<Request> all;
    for (int32_t i = 0; i < 8; ++i) {
      all.push_back(request({i, 2 * i + 1, 5, 6, 7, 8, 9, 10, 11, 3 * i}, 51));
      all.back().output = {.log_probs = true, .exclude_input = true};
    }
    return all;
  }

  /// What each gets with all the memory it wants.
  std::vector<CollectedRequest> expected() {
    Executor executor(options({.intermediate_size = 400}));
    std::vector<CollectedRequest> all;
    for (const Request& request : requests()) {
      all.push_back(await_end(executor, executor.enqueue(request)));
    }
    return all;
  }

  static void expect_same(Executor& executor, const std::vector<uint64_t>& ids,
                          const std::vector<CollectedRequest>& expected) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const CollectedRequest got = await_end(executor, ids[i]);
      EXPECT_EQ(got.error, "");
      EXPECT_TRUE(got.sequences == expected[i].sequences) << "request " << i;
    }
  }

  static int64_t most_together(const std::vector<IterationStats>& passes) {
    int64_t most = 0;
    for (const IterationStats& pass : passes) most = std::max(most, pass.scheduled_sequences);
    return most;
  }
};

TEST_P(ExecutorKvPoolTest, WhatFewerWeightsFreeGoesToTheCacheAndComesBack) {
  const std::vector<CollectedRequest> whole = expected();
  Executor executor(tight_options());
  expect_same(executor, executor.enqueue(requests()), whole);
  executor.set_gpu_weights_percent(0.0);  // all passes have been recorded
  const std::vector<IterationStats> small = executor.latest_iteration_stats();
  for (const IterationStats& pass : small) EXPECT_EQ(pass.kv_cache.max_blocks, kBlocksOfRequest);
  EXPECT_LE(most_together(small), kBlocksOfRequest);  // one is sure, of preempted ones a block each

  expect_same(executor, executor.enqueue(requests()), whole);
  executor.set_gpu_weights_percent(1.0);
  const std::vector<IterationStats> large = executor.latest_iteration_stats();
  for (const IterationStats& pass : large) {
    EXPECT_GE(pass.kv_cache.max_blocks, 8 * kBlocksOfRequest);
    EXPECT_GT(pass.streamed_bytes, 0U);
  }
  EXPECT_EQ(most_together(large), 8);
  EXPECT_LT(large.size(), small.size() / 2);

  expect_same(executor, executor.enqueue(requests()), whole);
  executor.set_gpu_weights_percent(1.0);
  EXPECT_EQ(executor.latest_iteration_stats().back().kv_cache.max_blocks, kBlocksOfRequest);
}

TEST_P(ExecutorKvPoolTest, ItGrowsAndShrinksUnderRequestsInFlight) {
  const std::vector<CollectedRequest> whole = expected();
  ExecutorOptions some = tight_options();
  some.kv_cache.enable_block_reuse = true;
  Executor executor(some);
  std::vector<Request> streaming = requests();
  for (Request& request : streaming) request.streaming = true;
  for (int round = 0; round < 3; ++round) {
    executor.set_gpu_weights_percent(0.0);
    const std::vector<uint64_t> ids = executor.enqueue(streaming);
    std::vector<CollectedRequest> got(ids.size());
    const auto receive = [&](size_t i) {
      for (const Response& response : executor.await_responses(ids[i])) collect(response, got[i]);
    };
    for (size_t i = 0; i < ids.size(); ++i) receive(i);  // all have begun
    set_percent_or_less(executor, 1.0);
    if (!got[0].final) receive(0);
    executor.set_gpu_weights_percent(0.3);
    for (size_t i = 0; i < ids.size(); ++i) {
      while (!got[i].final) receive(i);
      EXPECT_EQ(got[i].error, "");
      EXPECT_EQ(got[i].sequences[0].tokens, whole[i].sequences.at(0).tokens) << i;
      EXPECT_EQ(got[i].sequences[0].log_probs, whole[i].sequences.at(0).log_probs) << i;
    }
  }
  executor.set_gpu_weights_percent(1.0);
  const auto blocks = [](const IterationStats& pass) { return pass.kv_cache.max_blocks; };
  const std::vector<IterationStats> passes = executor.latest_iteration_stats();
  EXPECT_GE(blocks(*std::ranges::max_element(passes, {}, blocks)), 8 * kBlocksOfRequest);
  EXPECT_GE(blocks(*std::ranges::min_element(passes, {}, blocks)), kBlocksOfRequest);
}

TEST_P(ExecutorKvPoolTest, OfTokensAndFractionTheSmallerHolds) {
  constexpr int64_t kMany = 100'000;
  constexpr int64_t kFew = 2;  // blocks
  const int64_t block_tokens = kv_block_tokens();
  for (const int64_t tokens : {kMany, kFew * block_tokens}) {
    ExecutorOptions some = tight_options();
    some.kv_cache.free_memory_fraction = KvCacheOptions::kDefaultFraction;
    some.kv_cache.max_tokens = tokens;
    Executor executor(some);
    await_end(executor, executor.enqueue(request({1, 2, 3}, 2)));
    executor.set_gpu_weights_percent(1.0);  // the passes have been recorded
    EXPECT_EQ(executor.latest_iteration_stats().back().kv_cache.max_blocks,
              tokens == kMany ? kBlocksOfRequest : kFew);
  }
}

TEST_P(ExecutorKvPoolTest, WhatFitsDependsOnThePercentage) {
  ExecutorOptions some = tight_options();
  some.logits_processors["slow"] = [](const LogitsStep&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  Executor executor(some);
  Request large = request(std::vector<int32_t>(100, 7), 50);
  large.logits_processor = "slow";  // so that it is in flight when the percentage changes
  EXPECT_EQ(executor.max_sequence_tokens(), 256) << "the engine's: so many fit beside no weights";
  const std::string error = await_end(executor, executor.enqueue(large)).error;
  EXPECT_NE(error.find("the KV cache holds 64"), std::string::npos) << error;
  EXPECT_NE(error.find("or lower gpu_weights_percent"), std::string::npos) << error;
  executor.set_gpu_weights_percent(0.0);
  const uint64_t id = executor.enqueue(large);
  expect_error(ErrorCode::kOutOfMemory, "fits", [&] { executor.set_gpu_weights_percent(1.0); });
  EXPECT_EQ(executor.gpu_weights_percent(), 0.0);
  EXPECT_EQ(await_end(executor, id).error, "");
  executor.set_gpu_weights_percent(1.0);
  EXPECT_NE(await_end(executor, executor.enqueue(large)).error, "");
}

TEST_P(ExecutorKvPoolTest, AFixedCacheStays) {
  ExecutorOptions some = tight_options();
  some.kv_cache.max_tokens = 80;
  Executor executor(some);
  for (const double percent : {1.0, 0.0, 1.0}) {
    executor.set_gpu_weights_percent(percent);
    EXPECT_EQ(await_end(executor, executor.enqueue(request({1, 2}, 3))).error, "");
  }
  executor.set_gpu_weights_percent(1.0);
  for (const IterationStats& pass : executor.latest_iteration_stats()) {
    EXPECT_EQ(pass.kv_cache.max_blocks, 5);
  }
}

// There is never more memory for the cache than beside all weights.
TEST_P(ExecutorKvPoolTest, AnEngineThatDoesNotStreamHasTheCacheBesideAllWeights) {
  ExecutorOptions some = options({.weight_streaming = false});
  limit_memory(some, kBlocksOfRequest);
  Executor executor(some);
  EXPECT_EQ(executor.max_sequence_tokens(), kBlocksOfRequest * 16 + 1);
  const Request large = request(std::vector<int32_t>(100, 7), 50);
  const std::string error = await_end(executor, executor.enqueue(large)).error;
  EXPECT_NE(error.find("give the cache more tokens"), std::string::npos) << error;
  expect_error(ErrorCode::kInvalidArgument, "without weight streaming",
               [&] { executor.set_gpu_weights_percent(0.5); });
}

// All weights fit, and a ring that is not needed does not count.
TEST_P(ExecutorKvPoolTest, MemoryForAllWeightsAndNoRingIsEnough) {
  ExecutorOptions some = options();
  some.memory_limit_bytes = uint64_t{64} << 20;
  Executor executor(some);
  EXPECT_EQ(await_end(executor, executor.enqueue(request({1, 2}, 3))).error, "");
}

TEST_P(ExecutorKvPoolTest, AutomaticWeightsLeaveTheCacheItsLargestSize) {
  ExecutorOptions some = tight_options();
  some.automatic_gpu_weights = true;
  Executor executor(some);
  EXPECT_EQ(await_end(executor, executor.enqueue(request({1, 2}, 3))).error, "");
  executor.set_gpu_weights_percent(1.0);
  EXPECT_EQ(await_end(executor, executor.enqueue(request({1, 2}, 3))).error, "");
  executor.set_gpu_weights_percent(1.0);
  const std::vector<IterationStats> passes = executor.latest_iteration_stats();
  EXPECT_GE(passes.front().kv_cache.max_blocks, 8 * kBlocksOfRequest);
  EXPECT_EQ(passes.back().kv_cache.max_blocks, kBlocksOfRequest);
}

INSTANTIATE_TEST_SUITE_P(Policies, ExecutorKvPoolTest, all_policies(), policy_name);

}  // namespace
}  // namespace headrace::testing
