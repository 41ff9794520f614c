#include "compat/convert.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

namespace tle = tensorrt_llm::executor;
using testing::expect_error;

std::vector<float> values(tle::Tensor tensor) {
  const auto* data = static_cast<const float*>(tensor.getData());
  return {data, data + tensor.getSize()};
}

TEST(ConvertRequest, HandsEveryFieldOver) {
  tle::SamplingConfig sampling(1, 50, 0.9f, 0.1f, 7, 0.5f, 123, 0.8f, 2, 0.25f, 1.1f, 0.2f, 0.3f,
                               0.7f, 0, 3, 4, 0.05f);
  tle::Request request({1, 2}, 9, true, sampling, tle::OutputConfig(true, true, true, true), 11,
                       12);
  request.setBadWords({{1, 2}, {3}});
  request.setStopWords({{4}});
  request.setLogitsPostProcessorName("mine");
  request.setClientId(77);
  request.setPriority(0.75f);
  request.setReturnAllGeneratedTokens(true);
  const Request native = compat::to_request(request);
  EXPECT_EQ(native.prompt, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(native.max_new_tokens, 9);
  EXPECT_TRUE(native.streaming);
  EXPECT_EQ(native.sampling.top_k, 50);
  EXPECT_EQ(native.sampling.top_p, 0.9f);
  EXPECT_EQ(native.sampling.top_p_min, 0.1f);
  EXPECT_EQ(native.sampling.top_p_reset_id, 7);
  EXPECT_EQ(native.sampling.top_p_decay, 0.5f);
  EXPECT_EQ(native.sampling.random_seed, 123U);
  EXPECT_EQ(native.sampling.temperature, 0.8f);
  EXPECT_EQ(native.sampling.min_length, 2);
  EXPECT_EQ(native.sampling.beam_search_diversity_rate, 0.25f);
  EXPECT_EQ(native.sampling.repetition_penalty, 1.1f);
  EXPECT_EQ(native.sampling.presence_penalty, 0.2f);
  EXPECT_EQ(native.sampling.frequency_penalty, 0.3f);
  EXPECT_EQ(native.sampling.length_penalty, 0.7f);
  EXPECT_EQ(native.sampling.early_stopping, 0);
  EXPECT_EQ(native.sampling.no_repeat_ngram_size, 3);
  EXPECT_EQ(native.sampling.num_return_sequences, 4);
  EXPECT_EQ(native.sampling.min_p, 0.05f);
  EXPECT_TRUE(native.output.log_probs && native.output.context_logits &&
              native.output.generation_logits && native.output.exclude_input);
  EXPECT_EQ(native.end_id, 11);
  EXPECT_EQ(native.pad_id, 12);
  EXPECT_EQ(native.bad_words.size(), 2U);
  EXPECT_EQ(native.stop_words, (std::vector<std::vector<int32_t>>{{4}}));
  EXPECT_EQ(native.logits_processor, "mine");
  EXPECT_EQ(native.client_id, 77U);
  EXPECT_EQ(native.priority, 0.75f);
  EXPECT_TRUE(native.return_all_generated_tokens);
}

TEST(ConvertRequest, DefaultsAreGreedy) {
  const Request native = compat::to_request(tle::Request({1}, 1));
  EXPECT_EQ(native.sampling.top_k, 0);
  EXPECT_EQ(native.sampling.top_p, 0.0f);
  EXPECT_EQ(native.sampling.num_return_sequences, 1);
  tle::Request request({1}, 1);
  request.setNumReturnSequences(3);  // v0.13's place for it
  EXPECT_EQ(compat::to_request(request).sampling.num_return_sequences, 3);
}

TEST(ConvertRequest, PositionIdsMayOnlyCount) {
  tle::Request request({5, 6, 7}, 1);
  request.setPositionIds({0, 1, 2});
  EXPECT_EQ(compat::to_request(request).prompt.size(), 3U);
  request.setPositionIds({0, 2, 1});
  expect_error(ErrorCode::kUnsupported, "positionIds", [&] { compat::to_request(request); });
}

TEST(ConvertOptions, HandsEveryFieldOver) {
  tle::ExecutorConfig config(3,
                             tle::SchedulerConfig(tle::CapacitySchedulerPolicy::kMAX_UTILIZATION),
                             tle::KvCacheConfig(true, 4096, std::nullopt, std::nullopt, 0.7f), true,
                             false, 10, 20, tle::BatchingType::kINFLIGHT, 5, 600);
  config.setGpuWeightsPercent(0.2f);
  config.setMaxQueueSize(8);
  const ExecutorOptions options = compat::to_options("/engine", config);
  EXPECT_EQ(options.engine_dir, "/engine");
  EXPECT_EQ(options.max_beam_width, 3);
  EXPECT_EQ(options.capacity_policy, CapacityPolicy::kMaxUtilization);
  EXPECT_TRUE(options.kv_cache.enable_block_reuse);
  EXPECT_EQ(options.kv_cache.max_tokens, 4096);
  EXPECT_EQ(options.kv_cache.free_memory_fraction, 0.7);
  EXPECT_TRUE(options.enable_chunked_context);
  EXPECT_FALSE(options.normalize_log_probs);
  EXPECT_EQ(options.iteration_stats_max, 10);
  EXPECT_EQ(options.request_stats_max, 20);
  EXPECT_EQ(options.max_batch_size, 5);
  EXPECT_EQ(options.max_num_tokens, 600);
  EXPECT_EQ(options.gpu_weights_percent, 0.2);  // not the float's 0.200000003
  EXPECT_EQ(options.max_queue_size, 8);
}

/// Puts a variable of the environment back as it was (empty if it was not there).
class KeptVariable {
 public:
  explicit KeptVariable(const char* name) : name_(name) {
    if (const char* const value = std::getenv(name)) value_ = value;
  }
  ~KeptVariable() { setenv(name_, value_.c_str(), 1); }
  KeptVariable(const KeptVariable&) = delete;
  KeptVariable& operator=(const KeptVariable&) = delete;

 private:
  const char* const name_;
  std::string value_;
};

TEST(ConvertOptions, TheEnvironmentChoosesTheDevice) {
  const auto device = [](const char* value) {
    setenv("HEADRACE_DEVICE", value, 1);
    return compat::to_options("/engine", tle::ExecutorConfig()).device;
  };
  const KeptVariable kept("HEADRACE_DEVICE");
  EXPECT_EQ(device("cpu"), "cpu");
  EXPECT_EQ(device("cuda"), "cuda");
  EXPECT_EQ(device("auto"), "auto");
  EXPECT_EQ(device(""), "auto");
  expect_error(ErrorCode::kInvalidArgument,
               "[executor] HEADRACE_DEVICE 'gpu': use auto, cpu or cuda", [&] { device("gpu"); });
}

TEST(ConvertOptions, TheEnvironmentChoosesTheHostThreads) {
  const auto threads = [](const char* value) {
    setenv("HEADRACE_HOST_THREADS", value, 1);
    return compat::to_options("/engine", tle::ExecutorConfig()).host_threads;
  };
  const KeptVariable kept("HEADRACE_HOST_THREADS");
  EXPECT_EQ(threads("0"), 0);
  EXPECT_EQ(threads("12"), 12);
  EXPECT_EQ(threads(""), std::nullopt);
  for (const char* const bad : {"-1", "+3", " 3", "3 ", "many", "2.5", "99999999999"}) {
    expect_error(ErrorCode::kInvalidArgument,
                 std::string("[executor] HEADRACE_HOST_THREADS '") + bad +
                     "': use a number of threads, 0 or more",
                 [&] { threads(bad); });
  }
}

TEST(ConvertResponse, StreamedLogitsOfBeamsComeTokenByToken) {
  Response native{.request_id = 7};
  native.result.tokens = {{1, 2, 3}, {4, 5, 6}};
  native.result.generation_logits =
      Logits{.rows = 3, .vocab_size = 2, .values = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}};
  const tle::Tensor whole = *compat::from_response(native, false).getResult().generationLogits;
  EXPECT_EQ(whole.getShape(), (tle::Shape{2, 3, 2}));
  EXPECT_EQ(values(whole), native.result.generation_logits->values);
  const tle::Tensor streamed = *compat::from_response(native, true).getResult().generationLogits;
  EXPECT_EQ(streamed.getShape(), (tle::Shape{3, 2, 2}));
  EXPECT_EQ(values(streamed), (std::vector<float>{0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15}));
}

}  // namespace
}  // namespace headrace
