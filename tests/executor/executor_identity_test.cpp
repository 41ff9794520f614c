#include <algorithm>
#include <map>
#include <ostream>

#include "tests/executor/executor_fixture.h"
#include "tests/executor/random_requests.h"

namespace headrace {
namespace {

using testing::await_end;
using testing::collect;
using testing::Collected;
using testing::CollectedRequest;
using testing::ExecutorTest;
using testing::RandomRequests;

constexpr size_t kRequests = 60;

/// How the mixed batch is served.
struct Mix {
  const char* name;
  CapacityPolicy policy;
  bool chunked;
  bool reuse;
  bool follows = false;  // the KV cache, the percentage

  friend void PrintTo(const Mix& mix, std::ostream* out) { *out << mix.name; }
};

class ExecutorIdentityTest : public ExecutorTest, public ::testing::WithParamInterface<Mix> {
 protected:
  /// What each request gets when nothing else is there: one sequence at a time, all weights
  /// resident, prompts whole.
  std::vector<CollectedRequest> alone(const std::vector<Request>& requests) {
    ExecutorOptions one = options();
    one.max_batch_size = 2;  // the largest num_return_sequences
    Executor executor(one);
    std::vector<CollectedRequest> all;
    for (const Request& request : requests) {
      all.push_back(await_end(executor, executor.enqueue(request)));
    }
    return all;
  }

  ExecutorOptions mixed_options() {
    ExecutorOptions some = options();
    some.max_batch_size = 6;
    some.max_num_tokens = 24;
    some.capacity_policy = GetParam().policy;
    some.enable_chunked_context = GetParam().chunked;
    some.kv_cache.enable_block_reuse = GetParam().reuse;
    if (GetParam().follows) {
      limit_memory(some, 10);
    } else {
      some.kv_cache.max_tokens = 10 * 16;
    }
    some.iteration_stats_max = 1'000'000;
    return some;
  }
};

/// Whether `part` is how `whole` begins.
template <typename T>
bool begins(const std::vector<T>& whole, const std::vector<T>& part) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

TEST_P(ExecutorIdentityTest, AMixedBatchGivesEveryRequestWhatItGetsAlone) {
  RandomRequests random(17, kVocab);
  std::vector<Request> requests;
  for (size_t i = 0; i < kRequests; ++i) requests.push_back(random.next());
  const std::vector<CollectedRequest> expected = alone(requests);

  Executor executor(mixed_options());
  std::map<uint64_t, CollectedRequest> got;
  std::map<uint64_t, size_t> numbers;
  std::map<uint64_t, bool> cancelled;
  const auto receive = [&](std::chrono::milliseconds timeout) {
    for (const Response& response : executor.await_responses(timeout)) {
      collect(response, got[response.request_id]);
    }
  };
  for (size_t i = 0; i < requests.size(); ++i) {
    const uint64_t id = executor.enqueue(requests[i]);
    numbers[id] = i;
    if (random.one_in(6)) {
      executor.cancel(id - static_cast<uint64_t>(random.draw(0, 3)));
      for (uint64_t at = id > 3 ? id - 3 : 1; at <= id; ++at) cancelled[at] = true;
    }
    if (random.one_in(8)) set_percent_or_less(executor, random.share());
    receive(std::chrono::milliseconds(random.draw(0, 2)));
  }
  const auto over = [&](const auto& number) { return got[number.first].final; };
  while (!std::ranges::all_of(numbers, over)) receive(std::chrono::milliseconds(1000));

  for (const auto& [id, number] : numbers) {
    EXPECT_EQ(got[id].error, "");
    for (const auto& [index, whole] : expected[number].sequences) {
      const Collected& own = got[id].sequences[index];
      if (own.reason == FinishReason::kCancelled) {
        EXPECT_TRUE(cancelled[id]);
        EXPECT_TRUE(begins(whole.tokens, own.tokens)) << number;
        EXPECT_TRUE(begins(whole.log_probs, own.log_probs)) << number;
        EXPECT_TRUE(begins(whole.generation_logits, own.generation_logits)) << number;
        continue;
      }
      EXPECT_TRUE(own == whole) << GetParam().name << " request " << number << " " << index;
    }
  }
  int64_t paused = 0;
  int64_t reused = 0;
  uint64_t streamed = 0;
  for (const IterationStats& stats : executor.latest_iteration_stats()) {
    paused += stats.paused_sequences;
    streamed += stats.streamed_bytes;
    reused = stats.kv_cache.reused_blocks;
  }
  EXPECT_EQ(reused > 0, GetParam().reuse);
  const bool may_preempt = GetParam().policy == CapacityPolicy::kMaxUtilization;
  if (!may_preempt || !GetParam().follows) {
    EXPECT_EQ(paused > 0, may_preempt);
  }
  EXPECT_GT(streamed, 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Policies, ExecutorIdentityTest,
    ::testing::Values(Mix{"guaranteed", CapacityPolicy::kGuaranteedNoEvict, true, false},
                      Mix{"preempting", CapacityPolicy::kMaxUtilization, true, false},
                      Mix{"whole prompts", CapacityPolicy::kMaxUtilization, false, false},
                      Mix{"reusing", CapacityPolicy::kGuaranteedNoEvict, true, true},
                      Mix{"reusing and preempting", CapacityPolicy::kMaxUtilization, true, true},
                      Mix{"following", CapacityPolicy::kGuaranteedNoEvict, true, true, true},
                      Mix{"following and preempting", CapacityPolicy::kMaxUtilization, true, true,
                          true}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::ranges::replace(name, ' ', '_');
      return name;
    });

}  // namespace
}  // namespace headrace
