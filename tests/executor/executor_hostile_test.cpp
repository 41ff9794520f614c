#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/executor/executor_fixture.h"
#include "tests/support/error_matchers.h"

// Values at the ends of their types, in everything that a user can set. What is refused says what
// would work; the rest works.
namespace headrace {
namespace {

using testing::await_end;
using testing::CollectedRequest;
using testing::ExecutorTest;

const std::vector<int32_t> kPrompt = {5, 900, 17, 3};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr int64_t kMost64 = std::numeric_limits<int64_t>::max();
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();

class ExecutorHostileTest : public ExecutorTest {
 protected:
  /// Options that are refused with a message that has `part`.
  template <typename Change>
  void refuse_options(const std::string& part, const Change& change) {
    ExecutorOptions bad = options();
    change(bad);
    try {
      Executor executor(bad);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_EQ(error.what()[0], '[');
    }
  }
};

TEST_F(ExecutorHostileTest, OptionsAtTheEndsOfTheirTypes) {
  using Options = ExecutorOptions;
  refuse_options("threads 2147483647", [](Options& o) { o.threads = kMost; });
  refuse_options("threads -2147483648", [](Options& o) { o.threads = kLeast; });
  refuse_options("max_batch_size", [](Options& o) { o.max_batch_size = kMost64; });
  refuse_options("max_num_tokens -1", [](Options& o) { o.max_num_tokens = -1; });
  refuse_options("beams", [](Options& o) { o.max_beam_width = kMost64; });
  refuse_options("max_beam_width 0", [](Options& o) { o.max_beam_width = 0; });
  refuse_options("ring", [](Options& o) { o.ring_requests = kLeast; });
  refuse_options("host_threads -1: use 0 to 1024", [](Options& o) { o.host_threads = -1; });
  refuse_options("host_threads -2147483648", [](Options& o) { o.host_threads = kLeast; });
  refuse_options("host_threads 2147483647", [](Options& o) { o.host_threads = kMost; });
  refuse_options("fraction inf", [](Options& o) { o.kv_cache.free_memory_fraction = kInfinity; });
  for (const double percent : {-0.1, 1.1, std::nan(""), double{kInfinity}, -double{kInfinity}}) {
    refuse_options("0.0 and 1.0", [=](Options& o) { o.gpu_weights_percent = percent; });
  }
  refuse_options("", [](Options& o) { o.memory_limit_bytes = 1; });
  refuse_options("iteration_stats_max", [](Options& o) { o.iteration_stats_max = -1; });
  refuse_options("the name ''",
                 [](Options& o) { o.logits_processors[""] = [](const LogitsStep&) {}; });
  refuse_options("the name 'batched'", [](Options& o) {
    o.logits_processors[kBatchedLogitsProcessor] = [](const LogitsStep&) {};
  });
  refuse_options("'x'", [](Options& o) { o.logits_processors["x"] = nullptr; });
  refuse_options("device", [](Options& o) { o.device = ""; });
  refuse_options("File does not exist", [](Options& o) { o.engine_dir = ""; });
}

/// A percentage that is named fits, and where none is, none does. Below 16 MiB there is no room for
/// a ring, though all weights of this engine fit.
TEST_F(ExecutorHostileTest, AdviceOnMemoryWorks) {
  const auto error_of = [&](uint64_t limit, double percent) -> std::string {
    ExecutorOptions some = options();
    some.memory_limit_bytes = limit;
    some.gpu_weights_percent = percent;
    some.kv_cache.max_tokens = 64;
    try {
      Executor executor(some);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const std::string named = "--gpu_weights_percent ";
  int advised = 0;
  int refused = 0;
  for (uint64_t limit = uint64_t{1} << 18; limit <= uint64_t{64} << 20; limit *= 2) {
    for (const double percent : {0.0, 0.5, 1.0}) {
      const std::string error = error_of(limit, percent);
      if (error.empty()) continue;
      if (error.find("no " + named + "fits") != std::string::npos) {
        ++refused;
        EXPECT_NE(error_of(limit, 0.0), "");
        EXPECT_NE(error_of(limit, 1.0), "");
        continue;
      }
      const size_t found = error.find(named);
      ASSERT_NE(found, std::string::npos) << error;
      ++advised;
      const double fits = std::stod(error.substr(found + named.size()));
      EXPECT_EQ(error_of(limit, fits), "") << error;
    }
  }
  EXPECT_GT(advised, 0);
  EXPECT_GT(refused, 0);
}

TEST_F(ExecutorHostileTest, AFractionOfMemoryThatIsNoBlockSaysWhatWouldDo) {
  for (const bool automatic : {false, true}) {
    refuse_options("use 0.0", [&](ExecutorOptions& o) {
      o.kv_cache.free_memory_fraction = 1e-12;
      o.automatic_gpu_weights = automatic;
    });
  }
}

TEST_F(ExecutorHostileTest, LargeOptionsThatWork) {
  ExecutorOptions large = options();
  large.max_queue_size = kMost64;
  large.iteration_stats_max = kMost64;
  large.request_stats_max = kMost64;
  large.memory_limit_bytes = ~uint64_t{0};
  large.gpu_weights_bytes = ~uint64_t{0};
  large.kv_cache.max_tokens = kMost64;
  Executor executor(large);
  EXPECT_EQ(await_end(executor, executor.enqueue(request(kPrompt, 2))).error, "");
}

/// Each ends with a whole output or with an error that has a place, and the next one is served.
TEST_F(ExecutorHostileTest, RequestsAtTheEndsOfTheirTypes) {
  Executor executor(options());
  const auto plain = await_end(executor, executor.enqueue(request(kPrompt, 4))).sequences;
  const auto try_out = [&](const char* name, auto change) {
    Request odd = request(kPrompt, 4);
    odd.sampling.top_k = 5;
    change(odd);
    const CollectedRequest got = await_end(executor, executor.enqueue(odd));
    if (got.error.empty()) {
      EXPECT_EQ(got.sequences.at(0).tokens.size(), kPrompt.size() + 4) << name;
    } else {
      EXPECT_EQ(got.error.front(), '[') << name << ": " << got.error;
    }
    EXPECT_EQ(await_end(executor, executor.enqueue(request(kPrompt, 4))).sequences, plain);
    return got.error;
  };
  const auto refused = [&](const char* part, auto change) {
    const std::string error = try_out(part, change);
    EXPECT_NE(error.find(part), std::string::npos) << part << ": " << error;
  };
  const auto served = [&](const char* name, auto change) {
    EXPECT_EQ(try_out(name, change), "") << name;
  };
  served("temperature tiny", [](Request& r) { r.sampling.temperature = kTiny; });
  served("temperature max", [](Request& r) { r.sampling.temperature = kLargest; });
  served("top_k", [](Request& r) { r.sampling.top_k = kMost; });
  served("top_p tiny", [](Request& r) { r.sampling.top_p = kTiny; });
  served("min_p 1", [](Request& r) { r.sampling.min_p = 1; });
  served("decay", [](Request& r) { r.sampling.top_p = 0.5f, r.sampling.top_p_decay = kTiny; });
  served("top_p_min", [](Request& r) { r.sampling.top_p_min = kTiny; });
  served("top_p_reset_id", [](Request& r) { r.sampling.top_p_reset_id = kMost; });
  served("repetition tiny", [](Request& r) { r.sampling.repetition_penalty = kTiny; });
  served("repetition max", [](Request& r) { r.sampling.repetition_penalty = kLargest; });
  served("presence max", [](Request& r) { r.sampling.presence_penalty = kLargest; });
  served("presence least", [](Request& r) { r.sampling.presence_penalty = -kLargest; });
  served("frequency max", [](Request& r) { r.sampling.frequency_penalty = kLargest; });
  served("frequency least", [](Request& r) { r.sampling.frequency_penalty = -kLargest; });
  served("ngram", [](Request& r) { r.sampling.no_repeat_ngram_size = kMost; });
  served("min_length", [](Request& r) { r.sampling.min_length = kMost, r.end_id = 3; });
  served("seed", [](Request& r) { r.sampling.random_seed = ~uint64_t{0}; });
  served("early stopping", [](Request& r) { r.sampling.early_stopping = kLeast; });
  served("end id", [](Request& r) { r.end_id = kLeast; });
  served("pad id", [](Request& r) { r.pad_id = kMost; });
  served("client id", [](Request& r) { r.client_id = ~uint64_t{0}; });
  served("bias least", [](Request& r) { r.embedding_bias.assign(kVocab, -kLargest); });
  served("bias most", [](Request& r) { r.embedding_bias.assign(kVocab, kLargest); });
  served("a million stop words",
         [](Request& r) { r.stop_words.assign(1'000'000, std::vector<int32_t>{1, 2, 3}); });
  served("many bad words",
         [](Request& r) { r.bad_words.assign(200'000, std::vector<int32_t>{1, 2, 3}); });
  served("a long word", [](Request& r) { r.stop_words = {std::vector<int32_t>(1'000'000, 1)}; });
  refused("all 1003 tokens", [](Request& r) { r.embedding_bias.assign(kVocab, -kInfinity); });
  refused("infinite", [](Request& r) { r.embedding_bias.assign(kVocab, kInfinity); });
  refused("1004 values", [](Request& r) { r.embedding_bias.assign(kVocab + 1, 0.0f); });
  refused("token", [](Request& r) {
    for (int32_t id = 0; id < kVocab; ++id) r.bad_words.push_back({id});
  });
  refused("temperature", [](Request& r) { r.sampling.temperature = -kTiny; });
  refused("repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = 0; });
  refused("presence_penalty", [](Request& r) { r.sampling.presence_penalty = kInfinity; });
  refused("frequency_penalty", [](Request& r) { r.sampling.frequency_penalty = -kInfinity; });
  refused("top_p_decay", [](Request& r) { r.sampling.top_p_decay = std::nanf(""); });
  refused("top_p_min", [](Request& r) { r.sampling.top_p_min = 0; });
  refused("top_p_reset_id", [](Request& r) { r.sampling.top_p_reset_id = kLeast; });
  refused("min_length", [](Request& r) { r.sampling.min_length = kLeast; });
  refused("no_repeat_ngram_size", [](Request& r) { r.sampling.no_repeat_ngram_size = kLeast; });
  refused("num_return_sequences", [](Request& r) { r.sampling.num_return_sequences = kMost; });
  refused("beams", [](Request& r) { r.sampling.beam_width = kMost; });
  refused("beams", [](Request& r) { r.sampling.beam_width = kLeast; });
  refused("new tokens", [](Request& r) { r.max_new_tokens = std::numeric_limits<int64_t>::min(); });
  refused("deadline_ms", [](Request& r) { r.deadline_ms = std::numeric_limits<int64_t>::min(); });
  refused("priority", [](Request& r) { r.priority = kInfinity; });
  refused("priority", [](Request& r) { r.priority = -kTiny; });
  refused("logits_processor", [](Request& r) { r.logits_processor.assign(1'000'000, 'x'); });
  refused("tokens", [](Request& r) { r.prompt.assign(10'000'000, 1); });
}

/// Every stop word is compared with every beam that may go on, and with no other.
TEST_F(ExecutorHostileTest, BeamsWithManyStopWords) {
  ExecutorOptions some = options();
  some.max_beam_width = 4;
  Executor executor(some);
  Request odd = request(kPrompt, 4);
  odd.sampling.beam_width = 4;
  const std::vector<Response> plain = executor.await_responses(executor.enqueue(odd));
  odd.stop_words.assign(1'000'000, std::vector<int32_t>{1, 2, 3});
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<Response> responses = executor.await_responses(executor.enqueue(odd));
  EXPECT_EQ(responses.at(0).result.tokens, plain.at(0).result.tokens);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(120));
}

TEST_F(ExecutorHostileTest, SmallPasses) {
  ExecutorOptions small = options();
  small.max_num_tokens = 1;
  small.max_batch_size = 1;
  Executor executor(small);
  EXPECT_EQ(await_end(executor, executor.enqueue(request(kPrompt, 4))).error, "");
  small.max_batch_size = 8;
  Executor more(small);
  EXPECT_EQ(await_end(more, more.enqueue(request(kPrompt, 4))).error, "");
}

TEST_F(ExecutorHostileTest, IdsThatWereNeverGiven) {
  Executor executor(options());
  for (const uint64_t id : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    executor.cancel(id);
    EXPECT_EQ(executor.responses_ready(id), 0);
    const CollectedRequest got = await_end(executor, id);
    EXPECT_NE(got.error.find("already been processed"), std::string::npos);
  }
  EXPECT_TRUE(executor.enqueue(std::vector<Request>()).empty());
  EXPECT_TRUE(executor.await_responses(std::vector<uint64_t>()).empty());
  for (const double percent : {-1.0, 2.0, std::nan("")}) {
    testing::expect_error(ErrorCode::kInvalidArgument, "0.0 and 1.0",
                          [&] { executor.set_gpu_weights_percent(percent); });
  }
  EXPECT_EQ(executor.gpu_weights_percent(), 1.0);
}

}  // namespace
}  // namespace headrace
