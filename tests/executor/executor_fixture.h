#pragma once

#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "executor/executor_core.h"
#include "executor/session.h"
#include "headrace/executor.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/test_profile.h"
#include "tests/support/tiny_engine.h"

namespace headrace::testing {

/// What came for one sequence of a request, joined.
struct Collected {
  std::vector<int32_t> tokens;
  std::vector<float> log_probs;
  std::vector<float> context_logits;
  std::vector<float> generation_logits;
  float cum_log_prob = 0;
  FinishReason reason = FinishReason::kNotFinished;
  int64_t responses = 0;

  friend bool operator==(const Collected&, const Collected&) = default;
};

/// All that came for one request.
struct CollectedRequest {
  std::map<int32_t, Collected> sequences;  // by index
  std::string error;                       // empty: none
  bool final = false;
};

/// Joins a response to what came before it; a response after the last one is a failure. `repeats`:
/// it tells the earlier tokens again.
inline void collect(const Response& response, CollectedRequest& all, bool repeats = false) {
  EXPECT_FALSE(all.final) << "a response after the last, request " << response.request_id;
  all.final = response.result.is_final;
  if (response.error) {
    all.error = *response.error;
    return;
  }
  const Result& result = response.result;
  Collected& one = all.sequences[result.sequence_index];
  EXPECT_EQ(one.reason, FinishReason::kNotFinished);
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  ++one.responses;
  if (repeats) {
    one.tokens.clear();
    one.log_probs.clear();
  }
  ASSERT_EQ(result.tokens.size(), 1U);
  append(one.tokens, result.tokens[0]);
  if (!result.log_probs.empty()) append(one.log_probs, result.log_probs[0]);
  if (!result.cum_log_probs.empty()) one.cum_log_prob = result.cum_log_probs[0];
  if (result.context_logits) append(one.context_logits, result.context_logits->values);
  if (result.generation_logits) append(one.generation_logits, result.generation_logits->values);
  one.reason = result.finish_reasons.at(0);
  EXPECT_EQ(result.is_sequence_final, one.reason != FinishReason::kNotFinished);
}

/// Waits for the end of one request.
inline CollectedRequest await_end(Executor& executor, uint64_t id) {
  CollectedRequest all;
  while (!all.final) {
    for (const Response& response : executor.await_responses(id)) collect(response, all);
  }
  return all;
}

/// What a test compares of a response that tells all beams of a search.
struct Told {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> log_probs;
  std::vector<float> cum_log_probs;
  std::vector<FinishReason> reasons;
  std::vector<float> generation_logits;
  std::string error;

  friend bool operator==(const Told&, const Told&) = default;
};

inline Told told(const Response& response) {
  return {.tokens = response.result.tokens,
          .log_probs = response.result.log_probs,
          .cum_log_probs = response.result.cum_log_probs,
          .reasons = response.result.finish_reasons,
          .generation_logits = response.result.generation_logits.value_or(Logits{}).values,
          .error = response.error.value_or("")};
}

/// Where the executor's tests run: HEADRACE_TEST_DEVICE (scripts/gpu_check.sh), or the CPU.
inline std::string test_device() {
  const char* const asked = std::getenv("HEADRACE_TEST_DEVICE");
  return asked == nullptr ? "cpu" : asked;
}

/// A tiny engine whose passes all are canonical, and executors on it.
class ExecutorTest : public ::testing::Test {
 protected:
  static constexpr int32_t kVocab = 1003;

  ExecutorOptions options(const TinyModel& model = {}) {
    if (engine_.empty()) engine_ = make_tiny_engine(model, directory_ / "engine");
    ExecutorOptions options;
    options.engine_dir = engine_;
    options.device = test_device();
    options.threads = 1;
    options.profile_path = write_test_profile(directory_ / "profile.json");
    return options;
  }

  /// Leaves executors of these options memory for `blocks` blocks of KV cache beside all weights,
  /// and a ring so small that there are more beside fewer weights.
  static void limit_memory(ExecutorOptions& options, int64_t blocks) {
    options.ring_requests = 2;
    TestContext context;
    const auto session = Session::open(session_options(options), context.context);
    const MemoryReport memory = session->memory();
    const double kv_bytes = (static_cast<double>(blocks) + 0.5) *
                            static_cast<double>(session->kv().shape().block_bytes());
    options.memory_limit_bytes =
        memory.total_bytes() - memory.kv_bytes +
        static_cast<uint64_t>(kv_bytes / options.kv_cache.free_memory_fraction.value_or(
                                             KvCacheOptions::kDefaultFraction));
  }

  /// Sets a percentage, or where requests in flight need the memory, the one that the error names;
  /// they may need more by the time that it is asked for.
  static void set_percent_or_less(Executor& executor, double percent) {
    constexpr int kTries = 100;
    for (int i = 0; i < kTries; ++i) {
      try {
        return executor.set_gpu_weights_percent(percent);
      } catch (const Error& error) {
        const std::string what = error.what();
        const std::string named = "--gpu_weights_percent ";
        const size_t found = what.find(named);
        ASSERT_TRUE(found != std::string::npos && what.ends_with(" fits")) << what;
        const double fits = std::stod(what.substr(found + named.size()));
        EXPECT_NE(fits, percent) << what;  // it may be larger: a smaller ring
        percent = fits;
      }
    }
    FAIL() << "no percentage was taken";
  }

  static Request request(std::vector<int32_t> prompt, int64_t tokens) {
    return {.prompt = std::move(prompt), .max_new_tokens = tokens};
  }

  TemporaryDirectory directory_;
  std::string engine_;
};

}  // namespace headrace::testing
