#include "headrace/executor.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <future>
#include <limits>
#include <stdexcept>
#include <thread>

#include <unistd.h>

#include "kernels/backend.h"
#include "tests/executor/executor_fixture.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)
using testing::await_end;
using testing::Collected;
using testing::CollectedRequest;
using testing::ExecutorTest;
using testing::expect_error;

const std::vector<int32_t> kPrompt = {5, 900, 17, 3, 3, 1002, 64};

/// An executor and what a request gets from it.
CollectedRequest serve(Executor& executor, Request request) {
  return await_end(executor, executor.enqueue(std::move(request)));
}

TEST_F(ExecutorTest, WithoutStreamingOneResponseHoldsPromptAndOutput) {
  Executor executor(options());
  const uint64_t id = executor.enqueue(request(kPrompt, 6));
  const std::vector<Response> responses = executor.await_responses(id);
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(responses[0].request_id, id);
  EXPECT_EQ(responses[0].error, std::nullopt);
  const Result& result = responses[0].result;
  EXPECT_TRUE(result.is_final);
  EXPECT_TRUE(result.is_sequence_final);
  EXPECT_EQ(result.finish_reasons, (std::vector{FinishReason::kLength}));
  ASSERT_EQ(result.tokens[0].size(), kPrompt.size() + 6);  // no end id: exactly so many
  EXPECT_TRUE(std::equal(kPrompt.begin(), kPrompt.end(), result.tokens[0].begin()));

  Request excluding = request(kPrompt, 6);
  excluding.output.exclude_input = true;
  const std::vector<int32_t> output = serve(executor, excluding).sequences[0].tokens;
  EXPECT_EQ(output, std::vector<int32_t>(result.tokens[0].begin() + 7, result.tokens[0].end()));
}

TEST_F(ExecutorTest, StreamingGivesAResponseATokenWithTheNewOneAlone) {
  Executor executor(options());
  Request whole = request(kPrompt, 5);
  whole.output = {.log_probs = true, .generation_logits = true, .exclude_input = true};
  Request streamed = whole;
  streamed.streaming = true;
  const Collected expected = serve(executor, whole).sequences[0];
  Collected actual = serve(executor, streamed).sequences[0];
  EXPECT_EQ(actual.responses, 5);
  actual.responses = 1;
  EXPECT_EQ(actual, expected);
  EXPECT_EQ(expected.log_probs.size(), 5U);
  EXPECT_EQ(expected.generation_logits.size(), 5U * kVocab);

  streamed.return_all_generated_tokens = true;
  const uint64_t id = executor.enqueue(streamed);
  size_t tokens = 0;
  for (bool final = false; !final;) {
    for (const Response& response : executor.await_responses(id)) {
      EXPECT_EQ(response.result.tokens[0].size(), ++tokens);
      final = response.result.is_final;
    }
  }
  EXPECT_EQ(tokens, 5U);
}

TEST_F(ExecutorTest, ContextLogitsComeOfEveryPromptPositionOnce) {
  ExecutorOptions some = options();
  some.max_batch_size = 2;  // two logit rows a pass
  Executor executor(some);
  Request wants = request(kPrompt, 3);
  wants.output.context_logits = true;
  wants.output.generation_logits = true;
  const Collected got = serve(executor, wants).sequences[0];
  ASSERT_EQ(got.context_logits.size(), kPrompt.size() * kVocab);
  ASSERT_EQ(got.generation_logits.size(), 3U * kVocab);
  // The last position's are those that the first token is chosen from.
  EXPECT_TRUE(std::equal(got.generation_logits.begin(), got.generation_logits.begin() + kVocab,
                         got.context_logits.end() - kVocab));
}

TEST_F(ExecutorTest, AWrongPathIsAFileThatDoesNotExist) {
  ExecutorOptions wrong = options();
  wrong.engine_dir = "/no/such/folder";
  expect_error(ErrorCode::kNotFound, "File does not exist", [&] { Executor executor(wrong); });
}

TEST_F(ExecutorTest, OptionsThatCannotBeHonouredAreErrors) {
  const auto refuse = [&](const std::string& part, auto change) {
    ExecutorOptions bad = options();
    change(bad);
    expect_error(ErrorCode::kInvalidArgument, part, [&] { Executor executor(bad); });
  };
  refuse("max_batch_size 8", [](ExecutorOptions& o) { o.max_batch_size = 9; });
  refuse("max_batch_size -1", [](ExecutorOptions& o) { o.max_batch_size = -1; });
  refuse("max_queue_size 0", [](ExecutorOptions& o) { o.max_queue_size = 0; });
  refuse("max_tokens 0", [](ExecutorOptions& o) { o.kv_cache.max_tokens = 0; });
  refuse("fraction nan",
         [](ExecutorOptions& o) { o.kv_cache.free_memory_fraction = std::nan(""); });
  refuse("0.0 and 1.0", [](ExecutorOptions& o) { o.gpu_weights_percent = 1.5; });
  refuse("threads -1", [](ExecutorOptions& o) { o.threads = -1; });
  refuse("tpu", [](ExecutorOptions& o) { o.device = "tpu"; });
}

TEST_F(ExecutorTest, AfterShutdownEveryCallThrows) {
  Executor executor(options());
  const uint64_t id = executor.enqueue(request(kPrompt, 1));
  await_end(executor, id);
  EXPECT_TRUE(executor.can_enqueue());
  executor.shutdown();
  executor.shutdown();
  EXPECT_FALSE(executor.can_enqueue());
  const auto throws = [](auto&& call) {
    expect_error(ErrorCode::kInvalidArgument, "Shutdown called", call);
  };
  throws([&] { executor.enqueue(request(kPrompt, 1)); });
  throws([&] { executor.gpu_weights_percent(); });
  throws([&] { executor.await_responses(); });
  throws([&] { executor.await_responses(id); });
  throws([&] { executor.responses_ready(); });
  throws([&] { executor.cancel(id); });
  throws([&] { executor.set_gpu_weights_percent(0.5); });
  throws([&] { executor.latest_iteration_stats(); });
  throws([&] { executor.latest_request_stats(); });
}

TEST_F(ExecutorTest, ShutdownEndsRequestsInFlightAndThoseWhoWaitForThem) {
  Executor executor(options());
  const uint64_t id = executor.enqueue(request(kPrompt, 240));
  auto one = std::async(std::launch::async, [&] { return executor.await_responses(id); });
  auto nothing = std::async(std::launch::async, [&] { return executor.await_responses(999); });
  EXPECT_EQ(nothing.get().size(), 1U);
  std::this_thread::sleep_for(5ms);
  executor.shutdown();
  try {
    const std::vector<Response> responses = one.get();
    ASSERT_EQ(responses.size(), 1U);
    EXPECT_TRUE(responses[0].result.is_final);
    if (responses[0].error) {
      EXPECT_NE(responses[0].error->find("Shutdown called"), std::string::npos);
    }
  } catch (const Error& error) {  // it had not begun to wait
    EXPECT_NE(std::string(error.what()).find("Shutdown called"), std::string::npos);
  }
}

TEST_F(ExecutorTest, ARequestThatHasEndedIsToldApart) {
  Executor executor(options());
  const uint64_t id = executor.enqueue(request(kPrompt, 1));
  await_end(executor, id);
  const std::vector<uint64_t> ids = {id, id + 7};
  for (const std::vector<Response>& responses : executor.await_responses(ids)) {
    ASSERT_EQ(responses.size(), 1U);
    const uint64_t own = responses[0].request_id;
    EXPECT_EQ(responses[0].error,
              "ReqId " + std::to_string(own) + " has already been processed and was terminated.");
  }
}

TEST_F(ExecutorTest, AwaitingAllIdsAndTimeouts) {
  Executor executor(options());
  EXPECT_TRUE(executor.await_responses(1ms).empty());
  EXPECT_TRUE(executor.await_responses(std::chrono::milliseconds(-5)).empty());
  const std::vector<uint64_t> ids =
      executor.enqueue(std::vector<Request>{request(kPrompt, 3), request({1}, 4)});
  EXPECT_EQ(ids, (std::vector<uint64_t>{1, 2}));
  const auto both = executor.await_responses(ids);
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0][0].request_id, 1U);
  EXPECT_EQ(both[1][0].request_id, 2U);
  const uint64_t id = executor.enqueue(request(kPrompt, 3));
  while (executor.responses_ready(id) == 0) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(executor.responses_ready(), 1);
  const auto all = executor.await_responses(std::chrono::milliseconds::max());
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].request_id, id);
  EXPECT_EQ(executor.responses_ready(), 0);
}

TEST_F(ExecutorTest, AnEmbeddingBiasOfTheLargestNumberForcesItsToken) {
  Executor executor(options());
  Request biased = request(kPrompt, 5);
  biased.embedding_bias.assign(kVocab, 0.0f);
  biased.embedding_bias[321] = std::numeric_limits<float>::max();
  biased.output.exclude_input = true;
  EXPECT_EQ(serve(executor, biased).sequences[0].tokens, std::vector<int32_t>(5, 321));
}

TEST_F(ExecutorTest, EndIdsAndStopWordsEndASequence) {
  Executor executor(options());
  Request free = request(kPrompt, 8);
  free.output.exclude_input = true;
  const std::vector<int32_t> run = serve(executor, free).sequences[0].tokens;
  const auto first = std::find(run.begin(), run.end(), run[3]);

  Request ended = free;
  ended.end_id = run[3];
  Collected got = serve(executor, ended).sequences[0];
  EXPECT_EQ(got.reason, FinishReason::kEndId);
  EXPECT_EQ(got.tokens, std::vector<int32_t>(run.begin(), first + 1));
  ended.output.exclude_end_id = true;
  EXPECT_EQ(serve(executor, ended).sequences[0].tokens, std::vector<int32_t>(run.begin(), first));

  Request stopped = free;
  stopped.stop_words = {{run[4], run[5]}};
  got = serve(executor, stopped).sequences[0];
  EXPECT_EQ(got.reason, FinishReason::kStopped);
  EXPECT_EQ(got.tokens, std::vector<int32_t>(run.begin(), run.begin() + 6));

  Request negative = free;
  negative.end_id = -1;
  EXPECT_EQ(serve(executor, negative).sequences[0].tokens, run);
}

TEST_F(ExecutorTest, SeveralSequencesAreToldApartAndDrawApart) {
  Executor executor(options());
  Request several = request(kPrompt, 12);
  several.sampling = {.num_return_sequences = 3, .top_k = 0, .top_p = 0.95f, .random_seed = 7};
  const CollectedRequest first = serve(executor, several);
  ASSERT_EQ(first.sequences.size(), 3U);
  EXPECT_NE(first.sequences.at(0).tokens, first.sequences.at(1).tokens);
  EXPECT_NE(first.sequences.at(1).tokens, first.sequences.at(2).tokens);
  EXPECT_EQ(serve(executor, several).sequences, first.sequences);
  several.sampling.num_return_sequences = 1;
  EXPECT_EQ(serve(executor, several).sequences.at(0), first.sequences.at(0));
}

TEST_F(ExecutorTest, CancelledRequestsEndWithWhatThereIs) {
  Executor executor(options());
  Request long_one = request(kPrompt, 249);
  long_one.streaming = true;
  const uint64_t id = executor.enqueue(long_one);
  CollectedRequest got;
  for (const Response& response : executor.await_responses(id)) collect(response, got);
  executor.cancel(id);
  executor.cancel(id);
  executor.cancel(12345);
  while (!got.final) {
    for (const Response& response : executor.await_responses(id)) collect(response, got);
  }
  EXPECT_EQ(got.sequences[0].reason, FinishReason::kCancelled);
  EXPECT_GE(got.sequences[0].tokens.size(), 1U);
}

TEST_F(ExecutorTest, ADeadlineEndsARequestWithWhatThereIs) {
  Executor executor(options());
  Request hurried = request(kPrompt, 249);
  hurried.deadline_ms = 0;
  EXPECT_EQ(serve(executor, hurried).sequences[0].reason, FinishReason::kTimedOut);
  hurried.deadline_ms = std::numeric_limits<int64_t>::max();
  hurried.max_new_tokens = 2;
  EXPECT_EQ(serve(executor, hurried).sequences[0].reason, FinishReason::kLength);
}

TEST_F(ExecutorTest, AFullQueueRefusesWithAResponse) {
  ExecutorOptions some = options();
  some.max_batch_size = 1;
  some.max_queue_size = 2;
  std::promise<void> go;
  const std::shared_future<void> gate = go.get_future().share();
  some.logits_processors["wait"] = [&](const LogitsStep&) { gate.wait(); };
  Executor executor(some);
  Request waiting = request(kPrompt, 2);
  waiting.logits_processor = "wait";
  const uint64_t first = executor.enqueue(waiting);
  // Served, it no longer counts as queued.
  while (true) {
    const uint64_t probe = executor.enqueue(request({1}, 1));
    if (executor.responses_ready(probe) == 0) break;
    executor.await_responses(probe);
    std::this_thread::sleep_for(1ms);
  }
  std::vector<Request> more(4, request({2}, 1));
  int refused = 0;
  const std::vector<uint64_t> ids = executor.enqueue(more);
  for (const uint64_t id : ids) {
    if (executor.responses_ready(id) == 0) continue;
    const CollectedRequest got = await_end(executor, id);
    EXPECT_NE(got.error.find("Maximum queue size of 2 has been reached, please try again later"),
              std::string::npos)
        << got.error;
    ++refused;
  }
  EXPECT_GE(refused, 3);
  go.set_value();
  EXPECT_EQ(await_end(executor, first).error, "");
  EXPECT_EQ(serve(executor, request({3}, 1)).error, "");
}

TEST_F(ExecutorTest, ARequestThatRunsOutOfTimeBetweenPassesMakesNone) {
  ExecutorOptions some = options();
  some.max_batch_size = 1;
  some.max_num_tokens = 1;  // a pass for each token of the prompt
  Executor executor(some);
  Request hurried = request(std::vector<int32_t>(240, 5), 10);
  hurried.deadline_ms = 1;
  const CollectedRequest got = serve(executor, hurried);
  EXPECT_EQ(got.sequences.at(0).reason, FinishReason::kTimedOut);
  executor.set_gpu_weights_percent(1.0);  // all passes have been recorded
  for (const IterationStats& pass : executor.latest_iteration_stats()) {
    EXPECT_EQ(pass.scheduled_sequences, 1);
    EXPECT_EQ(pass.generation_sequences, 0);
    EXPECT_EQ(pass.context_tokens, 1);
    EXPECT_GE(pass.scheduling_ms, 0);
  }
}

TEST_F(ExecutorTest, HostileRequestsGetErrorsAndTheExecutorGoesOn) {
  ExecutorOptions some = options();
  some.max_beam_width = 2;
  some.kv_cache.max_tokens = 64;
  Executor executor(some);
  const auto refuse = [&](const std::string& part, auto change) {
    Request bad = request(kPrompt, 4);
    change(bad);
    const CollectedRequest got = serve(executor, bad);
    EXPECT_NE(got.error.find(part), std::string::npos) << got.error << " should hold " << part;
    EXPECT_TRUE(got.sequences.empty());
  };
  const float nan = std::nanf("");
  refuse("empty", [](Request& r) { r.prompt = {}; });
  refuse("1003", [](Request& r) { r.prompt[2] = 1003; });
  refuse("-1", [](Request& r) { r.prompt[2] = -1; });
  refuse("new tokens", [](Request& r) { r.max_new_tokens = 0; });
  refuse("fit", [](Request& r) { r.max_new_tokens = std::numeric_limits<int64_t>::max(); });
  refuse("KV cache holds 64", [](Request& r) { r.max_new_tokens = 59; });
  refuse("max_input_len", [](Request& r) { r.prompt.assign(300, 1); });
  refuse("temperature", [&](Request& r) { r.sampling.temperature = nan; });
  refuse("top_p", [&](Request& r) { r.sampling.top_p = nan; });
  refuse("min_p", [](Request& r) { r.sampling.min_p = 2; });
  refuse("top_k", [](Request& r) { r.sampling.top_k = -1; });
  refuse("3 beams, 1 to 2 work", [](Request& r) { r.sampling.beam_width = 3; });
  refuse("0 beams", [](Request& r) { r.sampling.beam_width = 0; });
  refuse("8 blocks of KV cache, there are 4",
         [](Request& r) { r.sampling.beam_width = 2, r.max_new_tokens = 50; });
  refuse("length_penalty", [&](Request& r) {
    r.sampling.beam_width = 2;
    r.sampling.length_penalty = nan;
  });
  refuse("num_return_sequences 17", [](Request& r) { r.sampling.num_return_sequences = 17; });
  refuse("num_return_sequences -1", [](Request& r) { r.sampling.num_return_sequences = -1; });
  refuse("bad_words[0] is empty", [](Request& r) { r.bad_words = {{}}; });
  refuse("1003", [](Request& r) { r.stop_words = {{1003}}; });
  refuse("bias", [](Request& r) { r.embedding_bias = {1.0f}; });
  refuse("not a number", [&](Request& r) { r.embedding_bias.assign(kVocab, nan); });
  refuse("end_id 1003", [](Request& r) { r.end_id = 1003; });
  refuse("priority", [&](Request& r) { r.priority = nan; });
  refuse("deadline_ms", [](Request& r) { r.deadline_ms = -1; });
  refuse("'nobody'", [](Request& r) { r.logits_processor = "nobody"; });
  refuse("'batched'", [](Request& r) { r.logits_processor = kBatchedLogitsProcessor; });
  EXPECT_EQ(serve(executor, request(kPrompt, 58)).error, "");  // 64 positions
}

TEST_F(ExecutorTest, LogitsProcessorsChangeWhatIsChosen) {
  ExecutorOptions some = options();
  const auto keep_only = [](std::span<float> logits, size_t token) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (i != token) logits[i] = -std::numeric_limits<float>::infinity();
    }
  };
  some.logits_processors["mask"] = [&](const LogitsStep& step) {
    EXPECT_EQ(step.client_id, 77U);
    EXPECT_EQ(step.logits.size(), static_cast<size_t>(kVocab));
    ASSERT_EQ(step.tokens.size(), 1U);
    keep_only(step.logits, step.tokens[0].size());
  };
  some.batched_logits_processor = [&](std::span<const LogitsStep> steps) {
    for (const LogitsStep& step : steps) keep_only(step.logits, 5);
  };
  Executor executor(some);
  Request masked = request(kPrompt, 3);
  masked.output.exclude_input = true;
  masked.output.generation_logits = true;
  masked.client_id = 77;
  masked.logits_processor = "mask";
  Request batched = masked;
  batched.logits_processor = kBatchedLogitsProcessor;
  const auto ids = executor.enqueue(std::vector{masked, batched, batched});
  const Collected own = await_end(executor, ids[0]).sequences[0];
  EXPECT_EQ(own.tokens, (std::vector<int32_t>{7, 8, 9}));
  EXPECT_EQ(own.generation_logits[0], -std::numeric_limits<float>::infinity());
  for (const size_t i : {1, 2}) {
    EXPECT_EQ(await_end(executor, ids[i]).sequences[0].tokens, (std::vector<int32_t>{5, 5, 5}));
  }
}

TEST_F(ExecutorTest, AThrowingProcessorOrANaNFailsItsRequestAlone) {
  ExecutorOptions some = options();
  some.logits_processors["throw"] = [](const LogitsStep& step) {
    if (step.tokens[0].size() > 8) throw std::runtime_error("the user's own trouble");
  };
  some.logits_processors["odd"] = [](const LogitsStep&) { throw 5; };
  some.logits_processors["nan"] = [](const LogitsStep& step) { step.logits[3] = std::nanf(""); };
  some.batched_logits_processor = [](std::span<const LogitsStep>) {
    throw std::runtime_error("all of you");
  };
  Executor executor(some);
  std::vector<Request> all(6, request(kPrompt, 20));
  all[1].logits_processor = "throw";
  all[1].sampling.num_return_sequences = 2;
  all[2].logits_processor = "odd";
  all[3].logits_processor = "nan";
  all[4].logits_processor = kBatchedLogitsProcessor;
  const std::vector<uint64_t> ids = executor.enqueue(all);
  std::vector<CollectedRequest> got;
  for (const uint64_t id : ids) got.push_back(await_end(executor, id));
  EXPECT_EQ(got[1].error, "the user's own trouble");
  EXPECT_NE(got[2].error.find("not a std::exception"), std::string::npos);
  EXPECT_NE(got[3].error.find("token 3 is not a number"), std::string::npos) << got[3].error;
  EXPECT_NE(got[3].error.find("logits processor wrote it"), std::string::npos) << got[3].error;
  EXPECT_EQ(got[4].error, "all of you");
  EXPECT_EQ(got[0].error, "");
  EXPECT_EQ(got[0].sequences, got[5].sequences);
}

TEST_F(ExecutorTest, InfinityOfABatchedProcessorFailsItsRequestAlone) {
  ExecutorOptions some = options();
  some.batched_logits_processor = [](std::span<const LogitsStep> steps) {
    for (const LogitsStep& step : steps) {
      if (step.client_id) step.logits[7] = std::numeric_limits<float>::infinity();
    }
  };
  Executor executor(some);
  std::vector<Request> both(2, request(kPrompt, 3));
  for (Request& one : both) one.logits_processor = kBatchedLogitsProcessor;
  both[0].client_id = 1;
  const std::vector<uint64_t> ids = executor.enqueue(both);
  const std::string error = await_end(executor, ids[0]).error;
  EXPECT_NE(error.find("token 7 is infinite: the request's logits processor wrote it"),
            std::string::npos)
      << error;
  EXPECT_EQ(await_end(executor, ids[1]).error, "");
}

TEST_F(ExecutorTest, ThePercentageChangesWhileRequestsAreInFlight) {
  Executor executor(options());
  const Collected expected = serve(executor, request(kPrompt, 150)).sequences[0];
  const uint64_t id = executor.enqueue(request(kPrompt, 150));
  for (const double percent : {0.3, 0.0, 1.0, 0.5}) {
    executor.set_gpu_weights_percent(percent);
    EXPECT_EQ(executor.gpu_weights_percent(), percent);
  }
  expect_error(ErrorCode::kInvalidArgument, "0.0 and 1.0",
               [&] { executor.set_gpu_weights_percent(1.1); });
  EXPECT_EQ(executor.gpu_weights_percent(), 0.5);
  EXPECT_EQ(await_end(executor, id).sequences[0], expected);
  uint64_t streamed = 0;
  for (const IterationStats& stats : executor.latest_iteration_stats()) {
    streamed += stats.streamed_bytes;
  }
  EXPECT_GT(streamed, 0U);
}

/// Bytes in use where weights are: of this process, or as a device's driver counts them.
uint64_t used_memory() {
  if (testing::test_device() == "cuda") return make_cuda_backend(0)->used_memory_bytes().value();
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  file >> pages >> pages;  // the second is what is resident
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST_F(ExecutorTest, SmallerPercentagesGiveMemoryBackWhileRequestsAreInFlight) {
  constexpr uint64_t kMostRing = uint64_t{4} << 20;
  ExecutorOptions some = options({.hidden_size = 512, .intermediate_size = 8000});
  some.ring_requests = 2;
  uint64_t weights = 0;
  {
    testing::TestContext context;
    weights = Session::open(session_options(some), context.context)->plan().streamable_bytes;
  }
  Executor executor(some);
  const Collected expected = serve(executor, request(kPrompt, 60)).sequences[0];
  ASSERT_GT(weights, 10 * kMostRing);
  for (int round = 0; round < 2; ++round) {
    const uint64_t id = executor.enqueue(request(kPrompt, 60));
    const uint64_t before = used_memory();
    executor.set_gpu_weights_percent(0.0);
    EXPECT_LE(used_memory() + weights - kMostRing, before);
    EXPECT_EQ(await_end(executor, id).sequences[0], expected);
    executor.set_gpu_weights_percent(1.0);
  }
}

TEST_F(ExecutorTest, StatsTellOfEveryPass) {
  ExecutorOptions some = options();
  some.iteration_stats_max = 3;
  some.request_stats_max = 100;
  Executor executor(some);
  const uint64_t id = executor.enqueue(request(kPrompt, 5));
  await_end(executor, id);
  executor.set_gpu_weights_percent(1.0);  // the pass has been recorded
  const std::vector<IterationStats> passes = executor.latest_iteration_stats();
  ASSERT_EQ(passes.size(), 3U);
  EXPECT_EQ(passes[2].iteration, 4);
  EXPECT_EQ(passes[2].completed_requests, 1);
  EXPECT_EQ(passes[2].active_requests, 0);
  EXPECT_EQ(passes[2].kv_cache.used_blocks, 0);
  EXPECT_EQ(passes[0].generation_sequences, 1);
  EXPECT_EQ(passes[0].active_requests, 1);
  EXPECT_EQ(passes[0].kv_cache.used_blocks, 1);
  const std::vector<RequestStatsOfIteration> requests = executor.latest_request_stats();
  ASSERT_EQ(requests.size(), 5U);
  ASSERT_EQ(requests[4].requests.size(), 1U);
  EXPECT_EQ(requests[4].requests[0].request_id, id);
  EXPECT_EQ(requests[4].requests[0].stage, RequestStage::kGenerationComplete);
  EXPECT_EQ(requests[4].requests[0].generated_tokens, 5);
  EXPECT_TRUE(executor.latest_iteration_stats().empty());
}

}  // namespace
}  // namespace headrace
