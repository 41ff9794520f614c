#include <chrono>
#include <cmath>
#include <fstream>
#include <future>
#include <iterator>
#include <limits>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/compat/compat_fixture.h"
#include "tests/support/error_matchers.h"

// What a careless or hostile client of TensorRT-LLM's names can do.
namespace headrace {
namespace {

namespace tle = tensorrt_llm::executor;
using testing::expect_error;
using Milliseconds = std::chrono::milliseconds;

const tle::VecTokens kPrompt = {5, 900, 17, 3};
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();

class CompatHostile : public testing::CompatTest {
 protected:
  static tle::Executor open(const tle::ExecutorConfig& config = tle::ExecutorConfig()) {
    return {engine(), tle::ModelType::kDECODER_ONLY, config};
  }

  static tle::Response serve(tle::Executor& executor, const tle::Request& request) {
    return executor.awaitResponses(executor.enqueueRequest(request)).at(0);
  }

  /// A config that is refused with a message that has `part`.
  template <typename Change>
  static void refuse(const std::string& part, const Change& change) {
    tle::ExecutorConfig bad;
    change(bad);
    try {
      (void)open(bad);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const std::exception& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
};

TEST_F(CompatHostile, ConfigsThatCannotBe) {
  using Config = tle::ExecutorConfig;
  for (const float percent : {-0.5f, 1.5f, std::nanf(""), INFINITY, -INFINITY}) {
    refuse("0.0 and 1.0", [=](Config& c) { c.setGpuWeightsPercent(percent); });
  }
  refuse("max_beam_width 0", [](Config& c) { c.setMaxBeamWidth(0); });
  refuse("max_beam_width", [](Config& c) { c.setMaxBeamWidth(kLeast); });
  refuse("--max_beam_width", [](Config& c) { c.setMaxBeamWidth(100); });  // not of this engine
  refuse("max_batch_size", [](Config& c) { c.setMaxBatchSize(kMost); });
  refuse("max_batch_size", [](Config& c) { c.setMaxBatchSize(-3); });
  refuse("max_num_tokens", [](Config& c) { c.setMaxNumTokens(kLeast); });
  refuse("max_queue_size 0", [](Config& c) { c.setMaxQueueSize(0); });
  refuse("iteration_stats_max", [](Config& c) { c.setIterStatsMaxIterations(-1); });
  refuse("request_stats_max", [](Config& c) { c.setRequestStatsMaxIterations(-1); });
  const auto cached = [](auto change) {
    return [=](Config& config) {
      tle::KvCacheConfig kv_cache;
      change(kv_cache);
      config.setKvCacheConfig(kv_cache);
    };
  };
  using Cache = tle::KvCacheConfig;
  refuse("fraction", cached([](Cache& c) { c.setFreeGpuMemoryFraction(NAN); }));
  refuse("kv_cache.max_tokens 0", cached([](Cache& c) { c.setMaxTokens(0); }));
  refuse("attention window of 3 tokens", cached([](Cache& c) { c.setMaxAttentionWindowVec({3}); }));
  refuse("sink tokens", cached([](Cache& c) { c.setSinkTokenLength(4); }));
  refuse("'nothing' is an empty function",
         [](Config& c) { c.setLogitsPostProcessorMap({{"nothing", tle::LogitsPostProcessor()}}); });
}

TEST_F(CompatHostile, AQueueThatIsFullRefuses) {
  std::promise<void> go;
  const std::shared_future<void> gate = go.get_future().share();
  tle::ExecutorConfig config;
  config.setMaxBatchSize(1);
  config.setMaxQueueSize(1);
  config.setLogitsPostProcessorMap({{"wait", [&](auto&&...) { gate.wait(); }}});
  tle::Executor executor = open(config);
  tle::Request waiting(kPrompt, 2);
  waiting.setLogitsPostProcessorName("wait");
  const auto ids = executor.enqueueRequests(std::vector<tle::Request>(4, waiting));
  const auto refused = executor.awaitResponses(ids[3]);
  EXPECT_NE(refused.at(0).getErrorMsg().find("Maximum queue size of 1 has been reached"),
            std::string::npos);
  go.set_value();
  EXPECT_FALSE(executor.awaitResponses(ids[0]).at(0).hasError());
  EXPECT_FALSE(serve(executor, tle::Request(kPrompt, 1)).hasError());
}

TEST_F(CompatHostile, ARequestLargerThanTheCacheSaysWhatFits) {
  tle::ExecutorConfig config;
  tle::KvCacheConfig kv_cache;
  kv_cache.setMaxTokens(64);
  config.setKvCacheConfig(kv_cache);
  tle::Executor executor = open(config);
  const tle::Response refused = serve(executor, tle::Request(kPrompt, 100));
  EXPECT_NE(refused.getErrorMsg().find("the KV cache holds 64"), std::string::npos);
  EXPECT_FALSE(serve(executor, tle::Request(kPrompt, 61)).hasError());
}

TEST_F(CompatHostile, RequestsThatCannotBe) {
  tle::Executor executor = open(tle::ExecutorConfig(2));
  const auto refused = [&](const std::string& part, auto change) {
    tle::Request bad(kPrompt, 3);
    change(bad);
    const tle::Response response = serve(executor, bad);
    ASSERT_TRUE(response.hasError()) << part;
    EXPECT_NE(response.getErrorMsg().find(part), std::string::npos) << response.getErrorMsg();
    EXPECT_FALSE(serve(executor, tle::Request(kPrompt, 3)).hasError());
  };
  const auto sampled = [](auto change) {
    return [=](tle::Request& request) {
      tle::SamplingConfig sampling;
      change(sampling);
      request.setSamplingConfig(sampling);
    };
  };
  using Sampling = tle::SamplingConfig;
  refused("temperature", sampled([](Sampling& s) { s.setTemperature(NAN); }));
  refused("top_p", sampled([](Sampling& s) { s.setTopP(-1); }));
  refused("top_k", sampled([](Sampling& s) { s.setTopK(kLeast); }));
  refused("repetition_penalty", sampled([](Sampling& s) { s.setRepetitionPenalty(0); }));
  refused("min_length", sampled([](Sampling& s) { s.setMinTokens(-1); }));
  refused("num_return_sequences", sampled([](Sampling& s) { s.setNumReturnSequences(kMost); }));
  refused("num_return_sequences", sampled([](Sampling& s) { s.setNumReturnSequences(-1); }));
  refused("beams", sampled([](Sampling& s) { s.setBeamWidth(0); }));
  refused("3 beams, 1 to 2 work", sampled([](Sampling& s) { s.setBeamWidth(3); }));
  refused("priority", [](tle::Request& r) { r.setPriority(NAN); });
  refused("end_id", [](tle::Request& r) { r.setEndId(kMost); });
  refused("stop_words[0] is empty", [](tle::Request& r) { r.setStopWords({{}}); });
  refused("vocabulary", [](tle::Request& r) { r.setBadWords({{kVocab}}); });
  refused("12 values", [](tle::Request& r) { r.setEmbeddingBias(tle::Tensor::cpu<float>({12})); });
  refused("'nobody'", [](tle::Request& r) { r.setLogitsPostProcessorName("nobody"); });
  refused("'batched'", [](tle::Request& r) {
    r.setLogitsPostProcessorName(tle::Request::kBatchedPostProcessorName);
  });
  tle::Request words(kPrompt, 3);
  words.setStopWords(std::list<tle::VecTokens>(1'000'000, {1, 2, 3}));
  EXPECT_FALSE(serve(executor, words).hasError());
  EXPECT_TRUE(executor.enqueueRequests({}).empty());
  EXPECT_TRUE(executor.awaitResponses(std::vector<tle::IdType>()).empty());
}

TEST_F(CompatHostile, TensorsOfNothingAndOfTooMuch) {
  expect_error(ErrorCode::kInvalidArgument, "null pointer",
               [] { tle::Tensor::of(tle::DataType::kFP32, nullptr, {kVocab}); });
  EXPECT_EQ(tle::Tensor::of(tle::DataType::kFP32, nullptr, {0}).getSize(), 0U);
  constexpr int64_t kHuge = int64_t{1} << 61;
  expect_error(ErrorCode::kInvalidArgument, "more bytes than can be counted",
               [] { tle::Tensor::cpu<int64_t>({kHuge + 1}); });
  expect_error(ErrorCode::kInvalidArgument, "more bytes than can be counted",
               [] { tle::Tensor::cpu<int8_t>({kHuge, kHuge}); });
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which end the program there
  expect_error(ErrorCode::kOutOfMemory, "do not fit", [] { tle::Tensor::cpu<int8_t>({kHuge}); });
#endif
}

TEST_F(CompatHostile, EnginesThatDoNotMatch) {
  expect_error(ErrorCode::kNotFound, "File does not exist", [] {
    tle::Executor executor(engine() + "/config.json", tle::ModelType::kDECODER_ONLY,
                           tle::ExecutorConfig());
  });
  const auto read = [](const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string weights = read(engine() + "/rank0.engine");
  const std::string config = read(engine() + "/config.json");
  const auto open_parts = [](std::string_view bytes, const std::string& json) {
    const tle::BufferView view(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    tle::Executor executor(view, json, tle::ModelType::kDECODER_ONLY, tle::ExecutorConfig());
  };
  EXPECT_NO_THROW(open_parts(weights, config));
  EXPECT_THROW(open_parts(weights, "{}"), Error);
  EXPECT_THROW(open_parts(weights, "not json"), Error);
  EXPECT_THROW(open_parts({}, config), Error);
  EXPECT_THROW(open_parts(std::string_view(weights).substr(0, weights.size() / 2), config), Error);
  std::string other = config;
  const size_t layers = other.find("\"num_hidden_layers\": ");
  ASSERT_NE(layers, std::string::npos);
  other.replace(layers, std::string("\"num_hidden_layers\": ").size(), "\"num_hidden_layers\": 1");
  EXPECT_THROW(open_parts(weights, other), Error);
}

TEST_F(CompatHostile, AnExecutorMayGoWhileOthersWait) {
  const tle::ExecutorConfig config;
  for (int round = 0; round < 5; ++round) {
    std::optional<tle::Executor> executor(std::in_place, engine(), tle::ModelType::kDECODER_ONLY,
                                          config);
    const tle::IdType quick = executor->enqueueRequest(tle::Request(kPrompt, 1));
    while (executor->getNumResponsesReady(quick) == 0) std::this_thread::sleep_for(Milliseconds(1));
    const tle::IdType slow = executor->enqueueRequest(tle::Request(kPrompt, 240));
    auto waiting = std::async(std::launch::async, [&executor, quick, slow] {
      return executor->awaitResponses(std::vector<tle::IdType>{quick, slow, slow});
    });
    // Then it has begun to wait.
    while (executor->getNumResponsesReady(quick) == 1) std::this_thread::sleep_for(Milliseconds(1));
    executor.reset();
    EXPECT_EQ(waiting.get().size(), 3U);
  }
}

// The request is in a pass, held up by its logits processor, when shutdown() is called.
TEST_F(CompatHostile, ShutdownEndsRequestsInFlight) {
  std::promise<void> in_a_pass;
  std::promise<void> go_on;
  tle::ExecutorConfig config;
  config.setLogitsPostProcessorMap(
      {{"gate", [&, passes = 0](tle::IdType, tle::Tensor&, tle::BeamTokens const&,
                                tle::StreamPtr const&, std::optional<tle::IdType>) mutable {
          if (++passes != 2) return;
          in_a_pass.set_value();
          go_on.get_future().wait();
        }}});
  tle::Executor executor = open(config);
  tle::Request request(kPrompt, 240);
  request.setLogitsPostProcessorName("gate");
  const tle::IdType id = executor.enqueueRequest(request);
  auto waiting = std::async(std::launch::async, [&] { return executor.awaitResponses(id); });
  in_a_pass.get_future().wait();
  auto ending = std::async(std::launch::async, [&] { executor.shutdown(); });
  while (executor.canEnqueueRequests()) std::this_thread::sleep_for(Milliseconds(1));
  go_on.set_value();
  ending.get();
  std::string error;
  try {
    const std::vector<tle::Response> responses = waiting.get();
    ASSERT_EQ(responses.size(), 1U);
    ASSERT_TRUE(responses[0].hasError());
    error = responses[0].getErrorMsg();
  } catch (const Error& thrown) {  // it had not begun to wait
    error = thrown.what();
  }
  EXPECT_NE(error.find("Shutdown called"), std::string::npos) << error;
}

}  // namespace
}  // namespace headrace
