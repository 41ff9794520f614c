#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <stdexcept>
#include <thread>

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

constexpr int64_t kKinds = 24;  // requests whose outcome is known

/// HEADRACE_SOAK_REQUESTS, or as many as take a few seconds.
int64_t request_count() {
  const char* const text = std::getenv("HEADRACE_SOAK_REQUESTS");
  return text == nullptr ? 400 : std::atoll(text);
}

/// What a request is expected to become.
struct Expectation {
  size_t kind = 0;
  bool bad = false;
  bool may_end_early = false;  // cancelled, or with a deadline
};

class ExecutorSoakTest : public ExecutorTest {
 protected:
  void SetUp() override {
    RandomRequests random(5, kVocab);
    ExecutorOptions some = options();
    some.max_batch_size = 2;
    Executor executor(some);
    for (int64_t i = 0; i < kKinds; ++i) {
      kinds_.push_back(random.next());
      kinds_.back().streaming = false;
      outcomes_.push_back(await_end(executor, executor.enqueue(kinds_.back())));
    }
  }

  /// A request of a known kind, or one with something wrong, and what it must become.
  Request next(RandomRequests& random, Expectation& expectation) {
    expectation.kind = static_cast<size_t>(random.draw(0, kKinds - 1));
    Request request = kinds_[expectation.kind];
    request.streaming = random.one_in(2);
    request.priority = static_cast<float>(random.share());
    if (random.one_in(20)) {
      request.deadline_ms = random.draw(0, 20);
      expectation.may_end_early = true;
    }
    expectation.bad = random.one_in(15);
    if (expectation.bad) {
      const int64_t what = random.draw(0, 3);
      if (what == 0) request.prompt.clear();
      if (what == 1) request.prompt[0] = kVocab;
      if (what == 2) request.max_new_tokens = 10'000;
      if (what == 3) request.logits_processor = "throw";
    }
    return request;
  }

  void check(const Expectation& expectation, const CollectedRequest& got) {
    ASSERT_TRUE(got.final);
    EXPECT_TRUE(got.error.empty() || expectation.bad) << got.error;
    if (expectation.bad) {  // one may have ended before it could fail
      EXPECT_TRUE(!got.error.empty() || expectation.may_end_early);
      return;
    }
    for (const auto& [index, whole] : outcomes_[expectation.kind].sequences) {
      ASSERT_TRUE(got.sequences.contains(index));
      const Collected& own = got.sequences.at(index);
      const bool early =
          own.reason == FinishReason::kCancelled || own.reason == FinishReason::kTimedOut;
      EXPECT_TRUE(!early || expectation.may_end_early);
      ASSERT_LE(own.tokens.size(), whole.tokens.size());
      EXPECT_TRUE(std::equal(own.tokens.begin(), own.tokens.end(), whole.tokens.begin()));
      EXPECT_TRUE(std::equal(own.log_probs.begin(), own.log_probs.end(), whole.log_probs.begin()));
      EXPECT_TRUE(early || own.tokens.size() == whole.tokens.size());
    }
  }

  std::vector<Request> kinds_;
  std::vector<CollectedRequest> outcomes_;  // of each, alone
};

/// A client: enqueues, cancels, and takes the responses of its own requests, each of which must be
/// what it is alone.
TEST_F(ExecutorSoakTest, NoResponseIsLostDoubledOrMixedUp) {
  ExecutorOptions some = options();
  some.max_batch_size = 5;
  some.max_num_tokens = 32;
  some.capacity_policy = CapacityPolicy::kMaxUtilization;
  some.kv_cache = {.max_tokens = 12 * 16, .enable_block_reuse = true};
  some.logits_processors["throw"] = [](const LogitsStep&) { throw std::runtime_error("mine"); };
  Executor executor(some);
  const int64_t each = request_count() / 2;

  const auto client = [&](uint32_t seed) {
    RandomRequests random(seed, kVocab);
    std::map<uint64_t, Expectation> waiting;
    for (int64_t sent = 0; sent < each || !waiting.empty();) {
      if (sent < each && waiting.size() < 30) {
        Expectation expectation;
        const uint64_t id = executor.enqueue(next(random, expectation));
        if (random.one_in(10)) {
          expectation.may_end_early = true;
          executor.cancel(id);
        }
        ASSERT_TRUE(waiting.emplace(id, expectation).second);
        ++sent;
        if (random.one_in(40)) executor.set_gpu_weights_percent(random.share());
        if (!random.one_in(3)) continue;
      }
      const auto some_one =
          std::next(waiting.begin(), random.draw(0, static_cast<int64_t>(waiting.size()) - 1));
      check(some_one->second, await_end(executor, some_one->first));
      waiting.erase(some_one);
    }
  };
  std::thread other([&] { client(11); });
  client(22);
  other.join();

  EXPECT_EQ(executor.responses_ready(), 0);
  executor.latest_iteration_stats();
  await_end(executor, executor.enqueue(request({1}, 1)));
  executor.set_gpu_weights_percent(1.0);  // the pass has been recorded
  const KvCacheStats kv = executor.latest_iteration_stats().back().kv_cache;
  EXPECT_EQ(kv.used_blocks, 0);
  EXPECT_EQ(kv.free_blocks, 12);
}

}  // namespace
}  // namespace headrace
