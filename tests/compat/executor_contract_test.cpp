#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/compat/compat_fixture.h"
#include "tests/support/error_matchers.h"

// The contract of the Executor API (docs/executor.md), line by line, as a client sees it.
namespace headrace {
namespace {

namespace tle = tensorrt_llm::executor;
using testing::expect_error;
using Milliseconds = std::chrono::milliseconds;

const tle::VecTokens kPrompt = {5, 900, 17, 3};

class Contract : public testing::CompatTest {
 protected:
  static tle::Executor open(const tle::ExecutorConfig& config = tle::ExecutorConfig()) {
    return {engine(), tle::ModelType::kDECODER_ONLY, config};
  }

  /// A request without its prompt in the output.
  static tle::Request request(int32_t tokens, bool streaming = false) {
    tle::OutputConfig output;
    output.excludeInputFromOutput = true;
    return {kPrompt, tokens, streaming, tle::SamplingConfig(), output};
  }

  /// All responses of one request.
  static std::vector<tle::Response> serve(tle::Executor& executor, const tle::Request& request) {
    const tle::IdType id = executor.enqueueRequest(request);
    std::vector<tle::Response> all;
    do {
      for (tle::Response& response : executor.awaitResponses(id)) all.push_back(response);
    } while (!all.back().hasError() && !all.back().getResult().isFinal);
    return all;
  }

  static tle::VecTokens output_of(tle::Executor& executor, const tle::Request& request) {
    return serve(executor, request).at(0).getResult().outputTokenIds.at(0);
  }
};

TEST_F(Contract, ExecutorsMove) {
  tle::Executor first = open();
  const tle::VecTokens output = output_of(first, request(3));
  std::vector<tle::Executor> executors;
  executors.push_back(std::move(first));
  const tle::IdType waiting = executors[0].enqueueRequest(request(3));
  tle::Executor other = open();
  other = std::move(executors[0]);
  EXPECT_EQ(other.awaitResponses(waiting).at(0).getResult().outputTokenIds.at(0), output);
  executors[0] = open();
  EXPECT_EQ(output_of(executors[0], request(3)), output);
}

TEST_F(Contract, WithoutStreamingOneResponseHoldsPromptAndOutput) {
  tle::Executor executor = open();
  const auto responses = serve(executor, tle::Request(kPrompt, 6));
  ASSERT_EQ(responses.size(), 1U);
  const tle::Result& result = responses[0].getResult();
  EXPECT_EQ(result.decodingIter, 6);
  EXPECT_TRUE(result.isFinal);
  EXPECT_TRUE(result.isSequenceFinal);
  EXPECT_EQ(result.sequenceIndex, 0);
  EXPECT_EQ(result.finishReasons, (std::vector{tle::FinishReason::kLENGTH}));
  ASSERT_EQ(result.outputTokenIds.at(0).size(), 10U);  // no end id: exactly maxTokens
  EXPECT_TRUE(std::equal(kPrompt.begin(), kPrompt.end(), result.outputTokenIds[0].begin()));
  EXPECT_EQ(output_of(executor, request(6)),
            tle::VecTokens(result.outputTokenIds[0].begin() + 4, result.outputTokenIds[0].end()));
}

TEST_F(Contract, WithStreamingEveryTokenComesAlone) {
  tle::Executor executor = open();
  const auto responses = serve(executor, request(5, /*streaming=*/true));
  ASSERT_EQ(responses.size(), 5U);
  tle::VecTokens joined;
  for (size_t i = 0; i < responses.size(); ++i) {
    const tle::Result& result = responses[i].getResult();
    ASSERT_EQ(result.outputTokenIds.at(0).size(), 1U);
    EXPECT_EQ(result.decodingIter, static_cast<int32_t>(i + 1));
    joined.push_back(result.outputTokenIds[0][0]);
    EXPECT_EQ(result.isFinal, i == 4);
  }
  EXPECT_EQ(joined, output_of(executor, request(5)));

  tle::Request all = request(5, true);
  all.setReturnAllGeneratedTokens(true);
  EXPECT_EQ(serve(executor, all).back().getResult().outputTokenIds.at(0), joined);
}

TEST_F(Contract, EndIdsAndStopWordsEndASequence) {
  tle::Executor executor = open();
  const tle::VecTokens free = output_of(executor, request(6));
  tle::Request ending = request(6);
  ending.setEndId(free[2]);
  const auto ended = serve(executor, ending);
  EXPECT_EQ(ended.at(0).getResult().finishReasons.at(0), tle::FinishReason::kEND_ID);
  const tle::VecTokens output = ended.at(0).getResult().outputTokenIds.at(0);
  EXPECT_EQ(output, tle::VecTokens(free.begin(), std::find(free.begin(), free.end(), free[2])));
  tle::Request stopping = request(6);
  stopping.setStopWords({{free[0], free[1]}});
  const auto stopped = serve(executor, stopping);
  EXPECT_EQ(stopped.at(0).getResult().finishReasons.at(0), tle::FinishReason::kSTOP_WORDS);
  EXPECT_EQ(stopped.at(0).getResult().outputTokenIds.at(0).size(), 2U);
}

TEST_F(Contract, AWrongPathIsSaid) {
  expect_error(ErrorCode::kNotFound, "File does not exist", [] {
    tle::Executor executor("/no/such/engine", tle::ModelType::kDECODER_ONLY, tle::ExecutorConfig());
  });
}

TEST_F(Contract, AfterShutdownCallsThrow) {
  tle::Executor executor = open();
  EXPECT_TRUE(executor.canEnqueueRequests());
  executor.shutdown();
  EXPECT_FALSE(executor.canEnqueueRequests());
  EXPECT_THROW((void)executor.enqueueRequest(request(1)), std::exception);
  EXPECT_THROW((void)executor.awaitResponses(), std::exception);
  EXPECT_THROW((void)executor.awaitResponses(Milliseconds(1)), std::exception);
  EXPECT_THROW(executor.getLatestIterationStats(), std::exception);
}

TEST_F(Contract, AnIdThatHasEndedIsAnError) {
  tle::Executor executor = open();
  const tle::IdType id = executor.enqueueRequest(request(1));
  ASSERT_FALSE(executor.awaitResponses(id).at(0).hasError());
  const auto again = executor.awaitResponses(id);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_TRUE(again[0].hasError());
  EXPECT_EQ(again[0].getErrorMsg(),
            "ReqId " + std::to_string(id) + " has already been processed and was terminated.");
  EXPECT_THROW((void)again[0].getResult(), std::exception);
}

TEST_F(Contract, AnEmbeddingBiasOfMaxForcesItsToken) {
  tle::Executor executor = open();
  std::vector<float> bias(kVocab);
  bias[42] = std::numeric_limits<float>::max();
  tle::Request biased = request(4);
  biased.setEmbeddingBias(tle::Tensor::of(bias));
  EXPECT_EQ(output_of(executor, biased), (tle::VecTokens{42, 42, 42, 42}));
  biased.setEmbeddingBias(tle::Tensor::cpu<int32_t>({kVocab}));
  expect_error(ErrorCode::kInvalidArgument, "kFP32",
               [&] { (void)executor.enqueueRequest(biased); });
}

TEST_F(Contract, SeveralIdsAreAwaitedInTheirOrder) {
  tle::Executor executor = open();
  const auto ids = executor.enqueueRequests({request(3), request(1), request(2)});
  const auto responses = executor.awaitResponses({ids[2], ids[0]});
  ASSERT_EQ(responses.size(), 2U);
  EXPECT_EQ(responses[0].at(0).getRequestId(), ids[2]);
  EXPECT_EQ(responses[1].at(0).getResult().outputTokenIds.at(0).size(), 3U);
  while (executor.getNumResponsesReady() == 0) std::this_thread::sleep_for(Milliseconds(1));
  EXPECT_EQ(executor.getNumResponsesReady(ids[1]), 1);
  EXPECT_EQ(executor.awaitResponses().at(0).getRequestId(), ids[1]);
  EXPECT_TRUE(executor.awaitResponses(Milliseconds(1)).empty());
}

TEST_F(Contract, ACancelledRequestEndsWithWhatThereIs) {
  tle::Executor executor = open();
  const tle::IdType id = executor.enqueueRequest(request(200, /*streaming=*/true));
  size_t responses = 0;
  bool final = false;
  while (!final) {
    for (const tle::Response& response : executor.awaitResponses(id)) {
      ++responses;
      final = response.getResult().isFinal;
      if (final) {
        EXPECT_EQ(response.getResult().finishReasons.at(0), tle::FinishReason::kCANCELLED);
      }
    }
    executor.cancelRequest(id);
  }
  EXPECT_LT(responses, 200U);
}

TEST_F(Contract, LogitsAndProbabilitiesHaveTheShapesThatAreDeclared) {
  tle::Executor executor = open();
  tle::Request asking(kPrompt, 3, false, tle::SamplingConfig(),
                      tle::OutputConfig(true, true, true));
  const auto whole = serve(executor, asking);
  const tle::Result& result = whole.at(0).getResult();
  EXPECT_EQ(result.contextLogits->getShape(), (tle::Shape{4, kVocab}));
  EXPECT_EQ(result.generationLogits->getShape(), (tle::Shape{1, 3, kVocab}));
  EXPECT_EQ(result.cumLogProbs->size(), 1U);
  EXPECT_EQ(result.logProbs->at(0).size(), 3U);

  asking.setStreaming(true);
  for (const tle::Response& response : serve(executor, asking)) {
    EXPECT_EQ(response.getResult().generationLogits->getShape(), (tle::Shape{1, 1, kVocab}));
  }
}

TEST_F(Contract, ADeviceThatThereIsNotIsRefused) {
  const char* const before = std::getenv("HEADRACE_DEVICE");
  const std::string kept = before == nullptr ? "" : before;
  setenv("HEADRACE_DEVICE", "gpu", 1);
  expect_error(ErrorCode::kInvalidArgument,
               "[executor] HEADRACE_DEVICE 'gpu': use auto, cpu or cuda", [] { open(); });
  setenv("HEADRACE_DEVICE", kept.c_str(), 1);
}

TEST_F(Contract, BeamsHaveTheirOwnSums) {
  tle::Executor executor = open(tle::ExecutorConfig(2));
  tle::Request asking(kPrompt, 3, false, tle::SamplingConfig(2), tle::OutputConfig(true, true));
  const auto whole = serve(executor, asking);
  ASSERT_EQ(whole.size(), 1U);
  const tle::Result result = whole.at(0).getResult();
  EXPECT_EQ(result.outputTokenIds.size(), 2U);
  EXPECT_EQ(result.decodingIter, 3);
  EXPECT_EQ(result.cumLogProbs->size(), 2U);
  EXPECT_GE(result.cumLogProbs->at(0), result.cumLogProbs->at(1));
  EXPECT_EQ(result.contextLogits->getShape(), (tle::Shape{4, kVocab}));

  asking.setOutputConfig(tle::OutputConfig(false, false, true));
  const auto logits = serve(executor, asking).at(0).getResult().generationLogits;
  EXPECT_EQ(logits->getShape(), (tle::Shape{2, 3, kVocab}));
  asking.setStreaming(true);
  asking.setReturnAllGeneratedTokens(true);
  const auto streamed = serve(executor, asking);
  ASSERT_EQ(streamed.size(), 3U);
  EXPECT_FALSE(streamed[1].getResult().generationLogits.has_value());
  EXPECT_EQ(streamed[2].getResult().generationLogits->getShape(), (tle::Shape{3, 2, kVocab}));
}

TEST_F(Contract, ProcessorsSeeTokensAndClients) {
  std::vector<size_t> lengths;
  tle::ExecutorConfig config;
  config.setLogitsPostProcessorConfig(tle::LogitsPostProcessorConfig(
      tle::LogitsPostProcessorMap{
          {"watch",
           [&](tle::IdType, tle::Tensor& logits, tle::BeamTokens const& tokens,
               tle::StreamPtr const&, std::optional<tle::IdType> client) {
             EXPECT_EQ(logits.getShape(), (tle::Shape{1, 1, kVocab}));
             EXPECT_EQ(logits.getDataType(), tle::DataType::kFP32);
             EXPECT_EQ(client, 77U);
             lengths.push_back(tokens.at(0).size());
           }},
          {"fail", [](auto&&...) { throw std::runtime_error("no thanks"); }}},
      [](std::vector<tle::IdType> const& ids, std::vector<tle::Tensor>& logits,
         std::vector<std::reference_wrapper<tle::BeamTokens const>> const&, tle::StreamPtr const&,
         std::vector<std::optional<tle::IdType>> const&) {
        for (size_t i = 0; i < ids.size(); ++i) {
          auto* const values = static_cast<float*>(logits[i].getData());
          values[100 + ids[i]] = 1e9f;
        }
      }));
  tle::Executor executor = open(config);
  tle::Request watched = request(3);
  watched.setLogitsPostProcessorName("watch");
  watched.setClientId(77);
  const tle::VecTokens output = output_of(executor, watched);
  EXPECT_EQ(lengths, (std::vector<size_t>{4, 5, 6}));
  EXPECT_EQ(output, output_of(executor, request(3)));

  tle::Request batched = request(2);
  batched.setLogitsPostProcessorName(tle::Request::kBatchedPostProcessorName);
  const auto ids = executor.enqueueRequests({batched, batched});
  for (const tle::IdType id : ids) {
    const auto token = static_cast<int32_t>(100 + id);
    EXPECT_EQ(executor.awaitResponses(id).at(0).getResult().outputTokenIds.at(0),
              (tle::VecTokens{token, token}));
  }

  tle::Request failing = request(2);
  failing.setLogitsPostProcessorName("fail");
  EXPECT_NE(serve(executor, failing).at(0).getErrorMsg().find("no thanks"), std::string::npos);
  EXPECT_EQ(output_of(executor, request(3)), output);  // the others go on
}

TEST_F(Contract, LogitsThatAProcessorKeepsAreItsOwn) {
  std::vector<tle::Tensor> kept;
  std::vector<std::vector<float>> values;
  std::vector<const void*> lent;
  const auto keep = [&](tle::Tensor& logits) {
    const auto* const data = static_cast<const float*>(logits.getData());
    values.emplace_back(data, data + logits.getSize());
    lent.push_back(data);
    kept.push_back(std::move(logits));
  };
  tle::ExecutorConfig config;
  config.setLogitsPostProcessorConfig(tle::LogitsPostProcessorConfig(
      tle::LogitsPostProcessorMap{
          {"keep", [&](tle::IdType, tle::Tensor& logits, auto&&...) { keep(logits); }}},
      [&](std::vector<tle::IdType> const&, std::vector<tle::Tensor>& logits, auto&&...) {
        for (tle::Tensor& each : logits) keep(each);
        logits.clear();
      }));
  {
    tle::Executor executor = open(config);
    for (const std::string name : {"keep", tle::Request::kBatchedPostProcessorName}) {
      tle::Request keeping = request(3);
      keeping.setLogitsPostProcessorName(name);
      EXPECT_EQ(output_of(executor, keeping), output_of(executor, request(3)));
    }
  }
  ASSERT_EQ(kept.size(), 6U);
  for (size_t i = 0; i < kept.size(); ++i) {
    ASSERT_NE(kept[i].getData(), lent[i]);
    const auto* const data = static_cast<const float*>(kept[i].getData());
    EXPECT_EQ(std::vector<float>(data, data + kept[i].getSize()), values[i]);
  }
}

TEST_F(Contract, AFloatingPointValueIsThePercentage) {
  float gpuWeightsPercent = 1;
  EXPECT_EQ(tle::ExecutorConfig(gpuWeightsPercent = 0.5).getGpuWeightsPercent(), 0.5f);
  EXPECT_EQ(tle::ExecutorConfig(0.25).getGpuWeightsPercent(), 0.25f);
  EXPECT_EQ(tle::ExecutorConfig(2).getMaxBeamWidth(), 2);
  ::testing::internal::CaptureStdout();
  tle::Executor streaming = open(tle::ExecutorConfig(0.2f));
  const std::string log = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(log.find("Set gpu weights percent to 0.2, which is "), std::string::npos) << log;
  tle::Executor resident = open();
  EXPECT_EQ(output_of(streaming, request(6)), output_of(resident, request(6)));
  EXPECT_ANY_THROW(open(tle::ExecutorConfig(1.5f)));
}

TEST_F(Contract, EnginesComeFromMemoryToo) {
  const auto read = [](const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string weights = read(engine() + "/rank0.engine");
  const tle::BufferView view(reinterpret_cast<const uint8_t*>(weights.data()), weights.size());
  tle::Executor executor(view, read(engine() + "/config.json"), tle::ModelType::kDECODER_ONLY,
                         tle::ExecutorConfig());
  tle::Executor from_folder = open();
  EXPECT_EQ(output_of(executor, request(4)), output_of(from_folder, request(4)));
}

TEST_F(Contract, WhatIsNotSupportedIsSaidWhenItIsUsed) {
  tle::Executor executor = open();
  tle::Request lora = request(1);
  lora.setLoraConfig(tle::LoraConfig(1));
  expect_error(ErrorCode::kUnsupported, "LoRA", [&] { (void)executor.enqueueRequest(lora); });
  tle::Request draft = request(1);
  draft.setExternalDraftTokensConfig(tle::ExternalDraftTokensConfig({1}));
  expect_error(ErrorCode::kUnsupported, "draft", [&] { (void)executor.enqueueRequest(draft); });
  tle::Request tuned = request(1);
  tuned.setPromptTuningConfig(tle::PromptTuningConfig(tle::Tensor::cpu<float>({1, 72})));
  expect_error(ErrorCode::kUnsupported, "prompt tuning",
               [&] { (void)executor.enqueueRequest(tuned); });
  expect_error(ErrorCode::kUnsupported, "kDECODER_ONLY", [] {
    tle::Executor encoder(engine(), tle::ModelType::kENCODER_ONLY, tle::ExecutorConfig());
  });
  tle::ExecutorConfig medusa;
  medusa.setDecodingConfig(tle::DecodingConfig(tle::DecodingMode::Medusa()));
  expect_error(ErrorCode::kUnsupported, "speculative", [&] { open(medusa); });
  tle::ExecutorConfig ranks;
  ranks.setParallelConfig(tle::ParallelConfig(
      tle::CommunicationType::kMPI, tle::CommunicationMode::kLEADER, std::vector<int32_t>{0, 1}));
  expect_error(ErrorCode::kUnsupported, "one is supported", [&] { open(ranks); });
}

TEST_F(Contract, BadRequestsGetErrorResponses) {
  tle::Executor executor = open();
  tle::Request wide = request(1);
  wide.setSamplingConfig(tle::SamplingConfig(4));  // the executor has 1
  EXPECT_TRUE(serve(executor, wide).at(0).hasError());
  EXPECT_TRUE(serve(executor, tle::Request({}, 1)).at(0).hasError());
  EXPECT_TRUE(serve(executor, tle::Request(kPrompt, 100000)).at(0).hasError());
}

}  // namespace
}  // namespace headrace
