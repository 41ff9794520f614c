#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/executor/executor_fixture.h"

// Logits processors that call their own executor, and threads that wait while it is shut down.
namespace headrace {
namespace {

using std::chrono::milliseconds;
using testing::await_end;
using testing::CollectedRequest;
using testing::ExecutorTest;

const std::vector<int32_t> kPrompt = {5, 900, 17, 3};

class ExecutorCallbacksTest : public ExecutorTest {
 protected:
  /// What comes of a request whose processor does `action` with its executor, which serves another
  /// one before and after.
  std::string error_of(const std::function<void(Executor&, const LogitsStep&)>& action) {
    std::atomic<Executor*> own = nullptr;
    ExecutorOptions some = options();
    some.logits_processors["act"] = [&](const LogitsStep& step) { action(*own.load(), step); };
    Executor executor(some);
    own = &executor;
    const CollectedRequest before = await_end(executor, executor.enqueue(request(kPrompt, 3)));
    Request acting = request(kPrompt, 3);
    acting.logits_processor = "act";
    const CollectedRequest got = await_end(executor, executor.enqueue(acting));
    EXPECT_TRUE(executor.can_enqueue());
    const CollectedRequest after = await_end(executor, executor.enqueue(request(kPrompt, 3)));
    EXPECT_EQ(before.sequences, after.sequences);
    return got.error;
  }
};

TEST_F(ExecutorCallbacksTest, AProcessorThatWaitsForItsExecutorFailsInsteadOfHanging) {
  const auto refused = [&](const std::string& call, auto action) {
    const std::string error = error_of(action);
    EXPECT_NE(error.find("[executor] " + call + " in a logits processor"), std::string::npos)
        << error;
  };
  refused("await_responses", [](Executor& e, const LogitsStep&) { e.await_responses(); });
  refused("await_responses",
          [](Executor& e, const LogitsStep& step) { e.await_responses(step.request_id); });
  refused("await_responses", [](Executor& e, const LogitsStep& step) {
    const std::vector<uint64_t> ids = {step.request_id};
    e.await_responses(ids);
  });
  refused("set_gpu_weights_percent",
          [](Executor& e, const LogitsStep&) { e.set_gpu_weights_percent(0.5); });
  refused("shutdown", [](Executor& e, const LogitsStep&) { e.shutdown(); });
}

TEST_F(ExecutorCallbacksTest, AProcessorMayCancelAndEnqueue) {
  std::atomic<Executor*> own = nullptr;
  std::atomic<uint64_t> added = 0;
  ExecutorOptions some = options();
  some.logits_processors["act"] = [&](const LogitsStep& step) {
    if (step.tokens[0].size() == kPrompt.size()) added = own.load()->enqueue(request({7}, 2));
    own.load()->cancel(step.request_id);
  };
  Executor executor(some);
  own = &executor;
  Request acting = request(kPrompt, 100);
  acting.logits_processor = "act";
  const CollectedRequest got = await_end(executor, executor.enqueue(acting));
  EXPECT_EQ(got.sequences.at(0).reason, FinishReason::kCancelled);
  EXPECT_EQ(got.sequences.at(0).tokens.size(), kPrompt.size() + 1);
  EXPECT_EQ(await_end(executor, added).sequences.at(0).tokens.size(), 3U);
}

TEST_F(ExecutorCallbacksTest, WhatWasTakenOfSeveralIsNotLostByAShutdown) {
  std::promise<void> go;
  const std::shared_future<void> gate = go.get_future().share();
  ExecutorOptions some = options();
  some.logits_processors["wait"] = [&](const LogitsStep&) { gate.wait(); };
  Executor executor(some);
  const uint64_t quick = executor.enqueue(request(kPrompt, 1));
  while (executor.responses_ready(quick) == 0) std::this_thread::sleep_for(milliseconds(1));
  Request slow = request(kPrompt, 100);
  slow.logits_processor = "wait";
  const std::vector<uint64_t> ids = {quick, executor.enqueue(slow), executor.enqueue(slow)};
  auto all = std::async(std::launch::async, [&] { return executor.await_responses(ids); });
  while (executor.responses_ready(quick) == 1) std::this_thread::sleep_for(milliseconds(1));
  auto shutdown = std::async(std::launch::async, [&] { executor.shutdown(); });
  while (executor.can_enqueue()) std::this_thread::sleep_for(milliseconds(1));
  go.set_value();
  const std::vector<std::vector<Response>> got = all.get();
  shutdown.get();
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[0].at(0).error, std::nullopt);
  for (const size_t i : {1U, 2U}) {
    EXPECT_NE(got[i].at(0).error.value_or("").find("Shutdown called"), std::string::npos);
  }
}

TEST_F(ExecutorCallbacksTest, AnExecutorMayGoWhileOthersWait) {
  for (int round = 0; round < 5; ++round) {
    std::optional<Executor> executor(std::in_place, options());
    const uint64_t slow = executor->enqueue(request(kPrompt, 240));
    const auto wait = [&] {
      const uint64_t quick = executor->enqueue(request(kPrompt, 1));
      while (executor->responses_ready(quick) == 0) std::this_thread::sleep_for(milliseconds(1));
      auto waiting = std::async(std::launch::async, [&executor, slow, quick] {
        const std::vector<uint64_t> ids = {quick, slow, slow};
        return executor->await_responses(ids);
      });
      // Then it has begun to wait.
      while (executor->responses_ready(quick) == 1) std::this_thread::sleep_for(milliseconds(1));
      return waiting;
    };
    auto one = wait();
    auto other = wait();
    executor.reset();
    EXPECT_EQ(one.get().size(), 3U);
    EXPECT_EQ(other.get().size(), 3U);
  }
}

TEST_F(ExecutorCallbacksTest, NoTimeoutIsTooShort) {
  Executor executor(options());
  const uint64_t id = executor.enqueue(request(kPrompt, 240));
  const std::vector<uint64_t> ids = {id, id};
  for (const milliseconds past : {milliseconds(-1), milliseconds(-9'300'000'000'000),
                                  milliseconds(-9'230'000'000'000'000), milliseconds::min()}) {
    (void)executor.await_responses(id + 5, past);
    EXPECT_TRUE(executor.await_responses(ids, past).size() == 2);
  }
  executor.cancel(id);
}

}  // namespace
}  // namespace headrace
