// Clients that send random requests, disturb each other's in every way there is, and compare every
// response with what the request gets alone.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <ostream>
#include <stdexcept>
#include <thread>

#include "tests/executor/executor_fixture.h"
#include "tests/executor/random_requests.h"

namespace headrace {
namespace {

using testing::collect;
using testing::Collected;
using testing::CollectedRequest;
using testing::ExecutorTest;
using testing::RandomRequests;
using testing::Told;
using testing::told;

constexpr int64_t kKinds = 36;  // requests whose outcome is known
constexpr int32_t kVocab = 1003;
constexpr int64_t kBlockTokens = 4;
constexpr int64_t kBlocks = 60;  // of the KV cache: four beams of 80 tokens need at most 50
constexpr size_t kMostWaiting = 30;
constexpr std::chrono::minutes kLost{2};  // without a response: one was lost

constexpr int64_t kMixes = 4;

/// Of each mix: HEADRACE_SOAK_REQUESTS are for all of them, or as many as take a few seconds.
int64_t request_count() {
  const char* const text = std::getenv("HEADRACE_SOAK_REQUESTS");
  return (text == nullptr ? 800 : std::atoll(text)) / kMixes;
}

bool is_early(FinishReason reason) {
  return reason == FinishReason::kCancelled || reason == FinishReason::kTimedOut;
}

/// All that came for a request.
struct Answer {
  CollectedRequest lines;   // without beams
  std::vector<Told> steps;  // of a beam search, the responses
  bool final = false;

  void add(const Response& response, const Request& request) {
    final = response.result.is_final;
    if (request.sampling.beam_width > 1 && !response.error) {
      steps.push_back(told(response));
    } else {
      collect(response, lines, request.streaming && request.return_all_generated_tokens);
    }
  }
};

/// A request and what it gets when nothing else is there.
struct Kind {
  Request request;
  Answer alone;
};

/// What became of requests: a soak that does not meet all of it is none.
struct Outcomes {
  std::atomic<int64_t> whole = 0;
  std::atomic<int64_t> whole_streams = 0;
  std::atomic<int64_t> whole_searches = 0;
  std::atomic<int64_t> cancelled = 0;
  std::atomic<int64_t> timed_out = 0;
  std::atomic<int64_t> failed = 0;
};

/// Changes logits by what it is shown.
void favour_a_token(const LogitsStep& step) {
  for (size_t line = 0; line < step.tokens.size(); ++line) {
    const size_t token = (step.tokens[line].size() * 31) % kVocab;
    step.logits[line * kVocab + token] += 1.0f;
  }
}

ExecutorOptions with_processors(ExecutorOptions options) {
  options.logits_processors["favour"] = favour_a_token;
  options.logits_processors["throw"] = [](const LogitsStep&) { throw std::runtime_error("mine"); };
  options.logits_processors["nan"] = [](const LogitsStep& step) { step.logits[3] = std::nanf(""); };
  options.batched_logits_processor = [](std::span<const LogitsStep> steps) {
    for (const LogitsStep& step : steps) favour_a_token(step);
  };
  return options;
}

/// Makes the request one that must fail.
void spoil(Request& request, RandomRequests& random) {
  const std::vector<std::function<void(Request&)>> ways = {
      [](Request& r) { r.prompt.clear(); },
      [](Request& r) { r.prompt[0] = kVocab; },
      [](Request& r) { r.max_new_tokens = 0; },
      [](Request& r) { r.max_new_tokens = 10'000; },
      [](Request& r) { r.priority = 2; },
      [](Request& r) { r.sampling.temperature = std::nanf(""); },
      [](Request& r) { r.sampling.beam_width = 5; },
      [](Request& r) { r.sampling.num_return_sequences = 1000; },
      [](Request& r) { r.embedding_bias = {1.0f}; },
      [](Request& r) { r.stop_words = {{}}; },
      [](Request& r) { r.logits_processor = "nobody"; },
      [](Request& r) { r.logits_processor = "throw"; },
      [](Request& r) { r.logits_processor = "nan"; },
  };
  ways[static_cast<size_t>(random.draw(0, static_cast<int64_t>(ways.size()) - 1))](request);
}

/// One thread's: sends requests, and checks the responses that it is given.
class Client {
 public:
  Client(Executor& executor, std::span<const Kind> kinds, uint32_t seed, Outcomes& outcomes)
      : executor_(executor), kinds_(kinds), random_(seed, kVocab), outcomes_(outcomes) {}

  /// Serves so many requests. `by_id`: takes responses of one request, or of whichever has some.
  void run(int64_t requests, bool by_id) {
    for (int64_t sent = 0; sent < requests || !waiting_.empty();) {
      if (sent < requests && waiting_.size() < kMostWaiting) {
        send();
        ++sent;
        if (!random_.one_in(3)) continue;
      }
      disturb();
      const std::vector<Response> got = by_id ? executor_.await_responses(one_waiting(), kLost)
                                              : executor_.await_responses(kLost);
      ASSERT_FALSE(got.empty()) << waiting_.size() << " requests wait for responses that are lost";
      for (const Response& response : got) receive(response);
    }
  }

 private:
  struct Waiting {
    size_t kind = 0;
    Request request = {};  // as it was sent
    bool bad = false;
    bool may_end_early = false;  // cancelled, or with a deadline
    Answer answer = {};
  };

  void send() {
    Waiting sent{.kind = static_cast<size_t>(random_.draw(0, kKinds - 1))};
    sent.request = kinds_[sent.kind].request;
    sent.request.streaming = random_.one_in(2);
    sent.request.priority = static_cast<float>(random_.share());
    if (random_.one_in(20)) {
      sent.request.deadline_ms = random_.draw(0, 20);
      sent.may_end_early = true;
    }
    sent.bad = random_.one_in(12);
    if (sent.bad) spoil(sent.request, random_);
    const uint64_t id = executor_.enqueue(sent.request);
    ASSERT_TRUE(waiting_.emplace(id, std::move(sent)).second);
    if (random_.one_in(30)) cancel(id);
  }

  void disturb() {
    if (random_.one_in(20)) cancel(one_waiting());
    if (random_.one_in(50)) executor_.cancel(last_ended_);
    if (random_.one_in(40)) change_percent();
    if (random_.one_in(200)) {
      EXPECT_THROW(executor_.set_gpu_weights_percent(1.5), Error);
    }
  }

  void change_percent() {
    try {
      executor_.set_gpu_weights_percent(random_.share());
    } catch (const Error& error) {  // requests in flight need the memory
      EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory) << error.what();
    }
  }

  void cancel(uint64_t id) {
    waiting_.at(id).may_end_early = true;
    executor_.cancel(id);
  }

  uint64_t one_waiting() {
    const int64_t last = static_cast<int64_t>(waiting_.size()) - 1;
    return std::next(waiting_.begin(), random_.draw(0, last))->first;
  }

  void receive(const Response& response) {
    const uint64_t id = response.request_id;
    const auto found = waiting_.find(id);
    ASSERT_NE(found, waiting_.end()) << "not of this client, or after the last: " << id;
    Waiting& own = found->second;
    own.answer.add(response, own.request);
    if (!own.answer.final) return;
    check(own);
    waiting_.erase(found);
    last_ended_ = id;
    if (!random_.one_in(20)) return;
    const std::vector<Response> more = executor_.await_responses(id);
    ASSERT_EQ(more.size(), 1U);
    EXPECT_NE(more[0].error.value_or("").find("was terminated"), std::string::npos);
  }

  void check(const Waiting& own) {
    const std::string& error = own.answer.lines.error;
    EXPECT_TRUE(error.empty() || own.bad) << error;
    if (own.bad) {  // one may have ended before it could fail
      EXPECT_TRUE(!error.empty() || own.may_end_early);
      ++outcomes_.failed;
    } else if (own.request.sampling.beam_width > 1) {
      check_search(own);
    } else {
      check_lines(own);
    }
  }

  void check_lines(const Waiting& own) {
    const CollectedRequest& alone = kinds_[own.kind].alone.lines;
    ASSERT_EQ(own.answer.lines.sequences.size(), alone.sequences.size());
    FinishReason reason = FinishReason::kNotFinished;
    for (const auto& [index, whole] : alone.sequences) {
      Collected got = own.answer.lines.sequences.at(index);
      const auto tokens = static_cast<int64_t>(got.tokens.size());
      EXPECT_TRUE(own.request.streaming || got.responses == 1);
      if (is_early(got.reason)) {
        reason = got.reason;
        EXPECT_TRUE(!own.request.streaming || got.responses == tokens + 1);
        EXPECT_TRUE(begins(whole, got)) << own.kind;
        continue;
      }
      EXPECT_TRUE(!own.request.streaming || got.responses == tokens);
      got.responses = whole.responses;
      EXPECT_TRUE(got == whole) << own.kind;
    }
    note(own, reason);
  }

  /// Whether `part` is how `whole` begins.
  static bool begins(const Collected& whole, const Collected& part) {
    const auto how = [](const auto& all, const auto& some) {
      return some.size() <= all.size() && std::equal(some.begin(), some.end(), all.begin());
    };
    return how(whole.tokens, part.tokens) && how(whole.log_probs, part.log_probs) &&
           how(whole.context_logits, part.context_logits) &&
           how(whole.generation_logits, part.generation_logits);
  }

  /// Alone it told of all its steps.
  void check_search(const Waiting& own) {
    const std::vector<Told>& alone = kinds_[own.kind].alone.steps;
    std::vector<Told> got = own.answer.steps;
    ASSERT_FALSE(got.empty());
    FinishReason reason = FinishReason::kNotFinished;
    for (FinishReason& one : got.back().reasons) {
      if (is_early(one)) reason = std::exchange(one, FinishReason::kNotFinished);
    }
    if (reason != FinishReason::kNotFinished) {  // maybe while it was being found again
      EXPECT_TRUE(got.back().tokens[0].empty() ||
                  std::ranges::find(alone, got.back()) != alone.end());
      got.pop_back();
      ASSERT_LT(got.size(), alone.size());
      EXPECT_TRUE(std::equal(got.begin(), got.end(), alone.begin())) << own.kind;
    } else if (own.request.streaming) {
      EXPECT_TRUE(got == alone) << own.kind;
    } else {
      EXPECT_TRUE(got == std::vector{alone.back()}) << own.kind;
    }
    note(own, reason);
  }

  void note(const Waiting& own, FinishReason early) {
    EXPECT_TRUE(!is_early(early) || own.may_end_early);
    if (early == FinishReason::kCancelled) ++outcomes_.cancelled;
    if (early == FinishReason::kTimedOut) ++outcomes_.timed_out;
    if (is_early(early)) return;
    ++outcomes_.whole;
    if (own.request.streaming) ++outcomes_.whole_streams;
    if (own.request.sampling.beam_width > 1) ++outcomes_.whole_searches;
  }

  Executor& executor_;
  const std::span<const Kind> kinds_;
  RandomRequests random_;
  Outcomes& outcomes_;
  std::map<uint64_t, Waiting> waiting_;
  uint64_t last_ended_ = 0;
};

/// How the requests are served.
struct Mix {
  const char* name;
  CapacityPolicy policy;
  bool chunked;
  bool reuse;
  bool by_id;    // two clients, each of which awaits its own requests; or one that awaits any
  bool follows;  // the KV cache, the percentage

  friend void PrintTo(const Mix& mix, std::ostream* out) { *out << mix.name; }
};

class ExecutorSoakTest : public ExecutorTest, public ::testing::WithParamInterface<Mix> {
 protected:
  /// Draws the kinds and serves each of them alone.
  void SetUp() override {
    RandomRequests random(5, kVocab);
    ExecutorOptions some = with_processors(options({.tokens_per_block = kBlockTokens}));
    some.max_batch_size = 2;
    some.max_beam_width = 4;
    Executor executor(some);
    for (int64_t i = 0; i < kKinds; ++i) {
      Kind& kind = kinds_.emplace_back();
      kind.request = i % 3 == 0 ? random.next_search() : random.next();
      if (i % 6 == 1) kind.request.logits_processor = "favour";
      if (i % 9 == 0) kind.request.logits_processor = kBatchedLogitsProcessor;
      kind.request.streaming = i % 3 == 0;
      const uint64_t id = executor.enqueue(kind.request);
      while (!kind.alone.final) {
        for (const Response& response : executor.await_responses(id)) {
          kind.alone.add(response, kind.request);
        }
      }
      ASSERT_EQ(kind.alone.lines.error, "") << i;
    }
  }

  ExecutorOptions mixed_options() {
    ExecutorOptions some = with_processors(options({.tokens_per_block = kBlockTokens}));
    some.max_batch_size = 5;
    some.max_beam_width = 4;
    some.max_num_tokens = 32;
    some.capacity_policy = GetParam().policy;
    some.enable_chunked_context = GetParam().chunked;
    some.kv_cache.enable_block_reuse = GetParam().reuse;
    if (GetParam().follows) {
      limit_memory(some, kBlocks);
    } else {
      some.kv_cache.max_tokens = kBlocks * kBlockTokens;
    }
    some.iteration_stats_max = 10'000'000;
    return some;
  }

  std::vector<Kind> kinds_;
};

TEST_P(ExecutorSoakTest, NoResponseIsLostDoubledOrMixedUp) {
  Executor executor(mixed_options());
  executor.set_gpu_weights_percent(0.3);  // clients that get little time change it never
  Outcomes outcomes;
  const int64_t requests = request_count();
  Client first(executor, kinds_, 22, outcomes);
  if (GetParam().by_id) {
    Client second(executor, kinds_, 11, outcomes);
    std::thread other([&] { second.run(requests / 2, true); });
    first.run(requests - requests / 2, true);
    other.join();
  } else {
    first.run(requests, false);
  }
  EXPECT_EQ(executor.responses_ready(), 0);
  EXPECT_EQ(outcomes.whole + outcomes.cancelled + outcomes.timed_out + outcomes.failed, requests);
  for (const auto* some : {&outcomes.whole_streams, &outcomes.whole_searches, &outcomes.cancelled,
                           &outcomes.timed_out, &outcomes.failed}) {
    EXPECT_GT(*some, 0);
  }

  executor.set_gpu_weights_percent(1.0);
  executor.await_responses(executor.enqueue(request({1}, 1)));
  executor.set_gpu_weights_percent(1.0);  // the pass has been recorded
  const std::vector<IterationStats> passes = executor.latest_iteration_stats();
  int64_t paused = 0;
  uint64_t streamed = 0;
  for (const IterationStats& pass : passes) {
    paused += pass.paused_sequences;
    streamed += pass.streamed_bytes;
  }
  const bool may_preempt = GetParam().policy == CapacityPolicy::kMaxUtilization;
  if (!may_preempt || !GetParam().follows) {
    EXPECT_EQ(paused > 0, may_preempt);
  }
  EXPECT_GT(streamed, 0U);
  const KvCacheStats kv = passes.back().kv_cache;
  EXPECT_EQ(kv.reused_blocks > 0, GetParam().reuse);
  EXPECT_EQ(kv.used_blocks, 0);
  EXPECT_EQ(kv.free_blocks, kBlocks);
  const auto larger = [](const IterationStats& pass) { return pass.kv_cache.max_blocks > kBlocks; };
  EXPECT_EQ(std::ranges::any_of(passes, larger), GetParam().follows);
}

INSTANTIATE_TEST_SUITE_P(
    Mixes, ExecutorSoakTest,
    ::testing::Values(
        Mix{"guaranteed", CapacityPolicy::kGuaranteedNoEvict, false, false, true, true},
        Mix{"guaranteed_reusing", CapacityPolicy::kGuaranteedNoEvict, true, true, false, false},
        Mix{"preempting", CapacityPolicy::kMaxUtilization, true, false, false, false},
        Mix{"preempting_reusing", CapacityPolicy::kMaxUtilization, true, true, true, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace headrace
