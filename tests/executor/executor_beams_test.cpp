// Beam searches through the executor.

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <ostream>

#include "tests/executor/executor_fixture.h"
#include "tests/executor/random_requests.h"

namespace headrace {
namespace {

using testing::ExecutorTest;
using testing::RandomRequests;
using testing::Told;
using testing::told;

const std::vector<int32_t> kPrompt = {5, 900, 17, 3, 3, 1002, 64};
constexpr int64_t kBlockTokens = 4;

class ExecutorBeamsTest : public ExecutorTest {
 protected:
  ExecutorOptions beam_options() {
    ExecutorOptions some = options({.tokens_per_block = kBlockTokens});
    some.max_beam_width = 4;
    some.max_batch_size = 2;
    some.iteration_stats_max = 1'000'000;
    return some;
  }

  static Request beam_request(int32_t width, int64_t tokens) {
    Request made = request(kPrompt, tokens);
    made.sampling.beam_width = width;
    made.output = {.log_probs = true, .exclude_input = true};
    return made;
  }

  static std::vector<Told> await_all(Executor& executor, uint64_t id) {
    std::vector<Told> all;
    for (bool final = false; !final;) {
      for (const Response& response : executor.await_responses(id)) {
        all.push_back(told(response));
        final = response.result.is_final;
      }
    }
    return all;
  }
  /// The logits behind which `tokens` stand, each computed as a prompt's.
  static std::vector<float> path_logits(Executor& executor, const std::vector<int32_t>& tokens) {
    Request whole = request(kPrompt, 1);
    whole.prompt.insert(whole.prompt.end(), tokens.begin(), tokens.end() - 1);
    whole.output.context_logits = true;
    const std::vector<Response> got = executor.await_responses(executor.enqueue(whole));
    const std::vector<float>& all = got.at(0).result.context_logits.value().values;
    return {all.begin() + static_cast<ptrdiff_t>((kPrompt.size() - 1) * kVocab), all.end()};
  }
  static std::vector<Told> serve(Executor& executor, const Request& request) {
    return await_all(executor, executor.enqueue(request));
  }
};

TEST_F(ExecutorBeamsTest, OneResponseHoldsAllBeamsTheBestFirst) {
  ExecutorOptions plain = beam_options();
  plain.normalize_log_probs = false;
  Executor executor(plain);
  const std::vector<Told> got = serve(executor, beam_request(4, 9));
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].error, "");
  ASSERT_EQ(got[0].tokens.size(), 4U);
  EXPECT_TRUE(std::ranges::is_sorted(got[0].cum_log_probs, std::greater()));
  for (size_t beam = 0; beam < 4; ++beam) {
    EXPECT_EQ(got[0].tokens[beam].size(), 9U);
    EXPECT_EQ(got[0].reasons[beam], FinishReason::kLength);
    float sum = 0;
    for (const float log_prob : got[0].log_probs[beam]) sum += log_prob;
    EXPECT_FLOAT_EQ(got[0].cum_log_probs[beam], sum);
  }
  Request two = beam_request(4, 9);
  two.sampling.num_return_sequences = 2;
  two.output.exclude_input = false;
  const Told best = serve(executor, two)[0];
  ASSERT_EQ(best.tokens.size(), 2U);
  EXPECT_EQ(best.cum_log_probs[1], got[0].cum_log_probs[1]);
  EXPECT_TRUE(std::ranges::equal(std::span(best.tokens[1]).first(kPrompt.size()), kPrompt));
  EXPECT_TRUE(
      std::ranges::equal(std::span(best.tokens[1]).subspan(kPrompt.size()), got[0].tokens[1]));

  Executor normalizing(beam_options());
  EXPECT_FLOAT_EQ(serve(normalizing, beam_request(4, 9))[0].cum_log_probs[3],
                  got[0].cum_log_probs[3] / 9);
}

TEST_F(ExecutorBeamsTest, AnEndIdEndsABeam) {
  Executor executor(beam_options());
  Request ends = beam_request(3, 12);
  ends.end_id = serve(executor, beam_request(3, 12))[0].tokens[0][2];
  const Told got = serve(executor, ends)[0];
  const auto ended = std::ranges::find(got.reasons, FinishReason::kEndId);
  ASSERT_NE(ended, got.reasons.end());
  const auto beam = static_cast<size_t>(ended - got.reasons.begin());
  EXPECT_EQ(got.tokens[beam].back(), *ends.end_id);
  ends.output.exclude_end_id = true;
  const Told without = serve(executor, ends)[0];
  EXPECT_EQ(without.tokens[beam].size() + 1, got.tokens[beam].size());
  EXPECT_EQ(without.log_probs[beam].size() + 1, got.log_probs[beam].size());
}

TEST_F(ExecutorBeamsTest, StreamingTellsAllBeamsOfEachStep) {
  Executor executor(beam_options());
  Request streamed = beam_request(3, 8);
  const std::vector<Told> whole = serve(executor, streamed);
  streamed.streaming = true;
  EXPECT_NE(serve(executor, streamed)[0].error.find("return_all_generated_tokens"),
            std::string::npos);
  streamed.return_all_generated_tokens = true;
  const std::vector<Told> steps = serve(executor, streamed);
  ASSERT_EQ(steps.size(), 8U);
  for (size_t i = 0; i < 7; ++i) {
    ASSERT_EQ(steps[i].tokens.size(), 3U);
    EXPECT_EQ(steps[i].tokens[2].size(), i + 1);
    EXPECT_EQ(steps[i].reasons[2], FinishReason::kNotFinished);
  }
  EXPECT_EQ(steps.back(), whole[0]);
}

TEST_F(ExecutorBeamsTest, CancellingTellsTheBeamsThatThereAre) {
  Executor executor(beam_options());
  Request longer = beam_request(4, 200);
  const Told whole = serve(executor, longer)[0];
  longer.streaming = true;
  longer.return_all_generated_tokens = true;
  const uint64_t id = executor.enqueue(longer);
  executor.await_responses(id);
  executor.cancel(id);
  const std::vector<Told> steps = await_all(executor, id);
  EXPECT_EQ(steps.back().reasons, std::vector(4, FinishReason::kCancelled));
  EXPECT_LT(steps.back().tokens[0].size(), 200U);
  EXPECT_EQ(serve(executor, beam_request(4, 200))[0], whole);  // nothing of it is left
  EXPECT_EQ(executor.latest_iteration_stats().back().kv_cache.used_blocks, 0);
}

TEST_F(ExecutorBeamsTest, ALogitsProcessorSeesTheRowsAndTokensOfAllBeams) {
  ExecutorOptions some = beam_options();
  size_t steps = 0;
  const auto exclude = [&](const LogitsStep& step) {
    const size_t beams = step.tokens.size();
    ASSERT_EQ(step.logits.size(), beams * kVocab);
    EXPECT_EQ(beams, steps == 0 ? 1U : 3U);
    for (size_t beam = 0; beam < beams; ++beam) {
      EXPECT_EQ(step.tokens[beam].size(), kPrompt.size() + steps);
      std::fill_n(step.logits.begin() + static_cast<ptrdiff_t>(beam * kVocab), 900,
                  -std::numeric_limits<float>::infinity());
    }
    ++steps;
  };
  some.logits_processors["exclude"] = exclude;
  some.batched_logits_processor = [&](std::span<const LogitsStep> all) {
    for (const LogitsStep& step : all) exclude(step);
  };
  Executor executor(some);
  Request processed = beam_request(3, 6);
  processed.logits_processor = "exclude";
  const Told got = serve(executor, processed)[0];
  EXPECT_EQ(steps, 6U);
  for (const auto& tokens : got.tokens) EXPECT_GE(std::ranges::min(tokens), 900);
  steps = 0;
  processed.logits_processor = kBatchedLogitsProcessor;
  EXPECT_EQ(serve(executor, processed)[0], got);
}

TEST_F(ExecutorBeamsTest, ContextLogitsComeOnce) {
  Executor executor(beam_options());
  Request wants = beam_request(2, 3);
  wants.output.context_logits = true;
  const std::vector<Response> got = executor.await_responses(executor.enqueue(wants));
  ASSERT_EQ(got.size(), 1U);
  EXPECT_EQ(got[0].result.context_logits.value().values.size(), kPrompt.size() * kVocab);
}

TEST_F(ExecutorBeamsTest, GenerationLogitsAreThoseAlongEachBeamsPath) {
  Executor executor(beam_options());
  Request wants = beam_request(4, 12);
  wants.end_id = serve(executor, beam_request(4, 12))[0].tokens[0][2];
  wants.sampling.length_penalty = 1;
  wants.output.generation_logits = true;
  const Told got = serve(executor, wants)[0];
  ASSERT_EQ(got.tokens.size(), 4U);
  size_t longest = 0;
  size_t shortest = 12;
  for (const auto& tokens : got.tokens) {
    longest = std::max(longest, tokens.size());
    shortest = std::min(shortest, tokens.size());
  }
  EXPECT_LT(shortest, longest);  // or nothing is padded
  ASSERT_EQ(got.generation_logits.size(), 4 * longest * kVocab);
  const std::span<const float> all = got.generation_logits;
  for (size_t beam = 0; beam < 4; ++beam) {
    const std::span<const float> own = all.subspan(beam * longest * kVocab, longest * kVocab);
    const size_t size = got.tokens[beam].size() * kVocab;
    EXPECT_TRUE(std::ranges::equal(own.first(size), path_logits(executor, got.tokens[beam])));
    EXPECT_EQ(std::ranges::count(own.subspan(size), 0.0f),
              static_cast<ptrdiff_t>(own.size() - size));
  }

  wants.sampling.num_return_sequences = 1;
  const Told best = serve(executor, wants)[0];
  EXPECT_TRUE(std::ranges::equal(best.generation_logits, all.first(got.tokens[0].size() * kVocab)));
}

TEST_F(ExecutorBeamsTest, StreamedBeamsTellTheirLogitsAtTheEnd) {
  Executor executor(beam_options());
  Request wants = beam_request(3, 8);
  wants.output.generation_logits = true;
  const Told whole = serve(executor, wants)[0];
  EXPECT_EQ(whole.generation_logits.size(), size_t{3} * 8 * kVocab);
  wants.streaming = true;
  wants.return_all_generated_tokens = true;
  const std::vector<Told> steps = serve(executor, wants);
  ASSERT_EQ(steps.size(), 8U);
  for (size_t i = 0; i < 7; ++i) EXPECT_TRUE(steps[i].generation_logits.empty());
  EXPECT_EQ(steps.back(), whole);

  wants.max_new_tokens = 200;
  const uint64_t id = executor.enqueue(wants);
  executor.await_responses(id);
  executor.cancel(id);
  const Told cancelled = await_all(executor, id).back();
  const std::span<const float> all = cancelled.generation_logits;
  const size_t size = cancelled.tokens[2].size() * kVocab;
  ASSERT_EQ(all.size(), 3 * size);
  EXPECT_TRUE(std::ranges::equal(all.last(size), path_logits(executor, cancelled.tokens[2])));
}

TEST_F(ExecutorBeamsTest, ARequestThatNoEmptyCacheHoldsIsRefusedWithWhatFits) {
  ExecutorOptions small = beam_options();
  small.kv_cache.max_tokens = 10 * kBlockTokens;
  Executor executor(small);
  // 7 + 12 - 1 positions: a block is shared, each beam needs 4 more.
  EXPECT_NE(serve(executor, beam_request(3, 12))[0].error.find("13 blocks of KV cache, there are "
                                                               "10: 2 fit"),
            std::string::npos);
  EXPECT_EQ(serve(executor, beam_request(2, 12))[0].error, "");
}

/// How the mixed batch is served.
struct Mix {
  const char* name;
  CapacityPolicy policy;
  bool reuse;

  friend void PrintTo(const Mix& mix, std::ostream* out) { *out << mix.name; }
};

class ExecutorBeamsMixTest : public ExecutorBeamsTest, public ::testing::WithParamInterface<Mix> {};

TEST_P(ExecutorBeamsMixTest, SearchesAmongOthersFindWhatTheyFindAlone) {
  RandomRequests random(23, kVocab);
  std::vector<Request> requests;
  for (int i = 0; i < 40; ++i) {
    Request made = i % 3 == 0 ? random.next() : random.next_search();
    if (i % 3 == 1) made.output.generation_logits = true;
    if (made.sampling.beam_width == 1) made.sampling.num_return_sequences = 0;
    requests.push_back(std::move(made));
  }
  ExecutorOptions one = beam_options();
  one.max_batch_size = 1;
  std::vector<std::vector<Told>> alone;
  {
    Executor executor(one);
    for (const Request& request : requests) alone.push_back(serve(executor, request));
  }
  ExecutorOptions some = beam_options();
  some.max_batch_size = 3;
  some.max_num_tokens = 20;
  some.capacity_policy = GetParam().policy;
  // Four beams of 40 + 40 tokens need at most 10 + 4 * 10 blocks.
  some.kv_cache = {.max_tokens = 50 * kBlockTokens, .enable_block_reuse = GetParam().reuse};
  Executor executor(some);
  const std::vector<uint64_t> ids = executor.enqueue(requests);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(await_all(executor, ids[i]), alone[i]) << i;
  }
  int64_t paused = 0;
  int64_t most_sequences = 0;
  const std::vector<IterationStats> stats = executor.latest_iteration_stats();
  for (const IterationStats& pass : stats) {
    paused += pass.paused_sequences;
    most_sequences = std::max(most_sequences, pass.scheduled_sequences);
  }
  EXPECT_GT(most_sequences, 2);
  EXPECT_EQ(paused > 0, GetParam().policy == CapacityPolicy::kMaxUtilization);
  EXPECT_EQ(stats.back().kv_cache.reused_blocks > 0, GetParam().reuse);
  EXPECT_EQ(stats.back().kv_cache.free_blocks, 50);
}

INSTANTIATE_TEST_SUITE_P(
    Policies, ExecutorBeamsMixTest,
    ::testing::Values(Mix{"guaranteed", CapacityPolicy::kGuaranteedNoEvict, false},
                      Mix{"preempting", CapacityPolicy::kMaxUtilization, false},
                      Mix{"reusing", CapacityPolicy::kGuaranteedNoEvict, true},
                      Mix{"reusing_and_preempting", CapacityPolicy::kMaxUtilization, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace headrace
