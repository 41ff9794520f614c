#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tensorrt_llm/executor/executor.h"

// Names, defaults and setters of the public structs: what is not told of by what an executor does.
namespace tensorrt_llm::executor {
namespace {

static_assert(std::is_same_v<SizeType32, std::int32_t> && std::is_same_v<SizeType, SizeType32>);
static_assert(std::is_same_v<TokenIdType, std::int32_t> && std::is_same_v<IdType, std::uint64_t>);
static_assert(std::is_same_v<VecTokens, std::vector<TokenIdType>>);
static_assert(std::is_same_v<BeamTokens, std::vector<VecTokens>>);
static_assert(ModelType::kDECODER_ONLY != ModelType::kENCODER_ONLY);
static_assert(ModelType::kENCODER_DECODER != ModelType::kENCODER_ONLY);
static_assert(BatchingType::kSTATIC != BatchingType::kINFLIGHT);
static_assert(ContextChunkingPolicy::kEQUAL_PROGRESS !=
              ContextChunkingPolicy::kFIRST_COME_FIRST_SERVED);
static_assert(CommunicationMode::kLEADER != CommunicationMode::kORCHESTRATOR);
static_assert(RequestStage::kQUEUED != RequestStage::kGENERATION_COMPLETE);
static_assert(RequestType::REQUEST_TYPE_CONTEXT_ONLY != RequestType::REQUEST_TYPE_GENERATION_ONLY);
static_assert(FinishReason::kEND_ID != FinishReason::kLENGTH);
static_assert(MemoryType::kCPU != MemoryType::kGPU);

TEST(CompatInterface, ExecutorConfigsDefaults) {
  ExecutorConfig const config;
  EXPECT_EQ(config.getMaxBeamWidth(), 1);
  EXPECT_EQ(config.getSchedulerConfig().getCapacitySchedulerPolicy(),
            CapacitySchedulerPolicy::kGUARANTEED_NO_EVICT);
  EXPECT_FALSE(config.getKvCacheConfig().getEnableBlockReuse());
  EXPECT_FALSE(config.getEnableChunkedContext());
  EXPECT_TRUE(config.getNormalizeLogProbs());
  EXPECT_EQ(config.getIterStatsMaxIterations(), 1000);
  EXPECT_EQ(config.getRequestStatsMaxIterations(), 0);
  EXPECT_EQ(config.getBatchingType(), BatchingType::kINFLIGHT);
  EXPECT_FALSE(config.getMaxBatchSize() || config.getMaxNumTokens() || config.getMaxQueueSize());
  EXPECT_FALSE(config.getParallelConfig() || config.getPeftCacheConfig());
  EXPECT_FALSE(config.getLogitsPostProcessorConfig() || config.getDecodingConfig());
  EXPECT_FALSE(config.getDebugConfig());
  EXPECT_EQ(config.getGpuWeightsPercent(), 1.0f);
  EXPECT_EQ(config.getRecvPollPeriodMs(), 0);
  EXPECT_EQ(config.getMaxSeqIdleMicroseconds(), 180000000U);
}

TEST(CompatInterface, ExecutorConfigsSetters) {
  ExecutorConfig config;
  config.setMaxBeamWidth(2);
  config.setSchedulerConfig(SchedulerConfig(CapacitySchedulerPolicy::kMAX_UTILIZATION));
  config.setEnableChunkedContext(true);
  config.setNormalizeLogProbs(false);
  config.setIterStatsMaxIterations(3);
  config.setRequestStatsMaxIterations(4);
  config.setBatchingType(BatchingType::kSTATIC);
  config.setMaxBatchSize(5);
  config.setMaxNumTokens(6);
  config.setGpuWeightsPercent(0.5f);
  config.setMaxQueueSize(7);
  config.setRecvPollPeriodMs(8);
  config.setMaxSeqIdleMicroseconds(9);
  EXPECT_EQ(config.getMaxBeamWidth(), 2);
  EXPECT_EQ(config.getSchedulerConfig().getCapacitySchedulerPolicy(),
            CapacitySchedulerPolicy::kMAX_UTILIZATION);
  EXPECT_TRUE(config.getEnableChunkedContext());
  EXPECT_FALSE(config.getNormalizeLogProbs());
  EXPECT_EQ(config.getIterStatsMaxIterations(), 3);
  EXPECT_EQ(config.getRequestStatsMaxIterations(), 4);
  EXPECT_EQ(config.getBatchingType(), BatchingType::kSTATIC);
  EXPECT_EQ(config.getMaxBatchSize(), 5);
  EXPECT_EQ(config.getMaxNumTokens(), 6);
  EXPECT_EQ(config.getGpuWeightsPercent(), 0.5f);
  EXPECT_EQ(config.getMaxQueueSize(), 7);
  EXPECT_EQ(config.getRecvPollPeriodMs(), 8);
  EXPECT_EQ(config.getMaxSeqIdleMicroseconds(), 9U);
}

TEST(CompatInterface, RequestsDefaults) {
  Request const request({1, 2}, 3);
  EXPECT_FALSE(request.getStreaming());
  EXPECT_EQ(request.getSamplingConfig(), SamplingConfig());
  EXPECT_EQ(request.getSamplingConfig().getBeamWidth(), 1);
  EXPECT_FALSE(request.getSamplingConfig().getNumReturnSequences());
  EXPECT_FALSE(request.getOutputConfig().excludeInputFromOutput);
  EXPECT_FALSE(request.getEndId() || request.getPadId() || request.getPositionIds());
  EXPECT_FALSE(request.getBadWords() || request.getStopWords() || request.getEmbeddingBias());
  EXPECT_FALSE(request.getLogitsPostProcessorName() || request.getClientId());
  EXPECT_FALSE(request.getReturnAllGeneratedTokens());
  EXPECT_EQ(request.getPriority(), 0.5f);
  EXPECT_EQ(request.getNumReturnSequences(), 1);
}

TEST(CompatInterface, LookaheadConfigsKnowWhatTheyNeed) {
  EXPECT_TRUE(LookaheadDecodingConfig::isLegal(1, 1, 0));
  EXPECT_TRUE(LookaheadDecodingConfig::isLegal(3, 2, 0));
  EXPECT_FALSE(LookaheadDecodingConfig::isLegal(0, 2, 0));
  EXPECT_FALSE(LookaheadDecodingConfig::isLegal(2, 0, 0));
  EXPECT_FALSE(LookaheadDecodingConfig::isLegal(2, 2, -1));
  EXPECT_FALSE(LookaheadDecodingConfig::isLegal(2, 1, 0));
  EXPECT_FALSE(LookaheadDecodingConfig::isLegal(1, 1, 1));
  using Needs = std::tuple<SizeType32, SizeType32, SizeType32, SizeType32>;
  EXPECT_EQ(LookaheadDecodingConfig().calculateSpeculativeResource(), Needs(1, 1, 0, 0));
  EXPECT_EQ(LookaheadDecodingConfig(4, 5, 3).calculateSpeculativeResource(), Needs(28, 5, 27, 4));
  constexpr SizeType32 kMost = std::numeric_limits<SizeType32>::max();
  EXPECT_EQ(LookaheadDecodingConfig(kMost, kMost, kMost).calculateSpeculativeResource(),
            Needs(kMost, kMost, kMost, kMost - 1));
  EXPECT_TRUE(LookaheadDecodingConfig(2, 3, 4).isLE(LookaheadDecodingConfig(2, 4, 4)));
  EXPECT_FALSE(LookaheadDecodingConfig(2, 3, 4).isLE(LookaheadDecodingConfig(9, 9, 3)));
}

TEST(CompatInterface, ValuesThatExecutorsDoNotUseCompareAndGiveBack) {
  EXPECT_TRUE(PeftCacheConfig(1) == PeftCacheConfig(1));
  EXPECT_FALSE(PeftCacheConfig(1) == PeftCacheConfig(2));
  EXPECT_FALSE(PeftCacheConfig() == PeftCacheConfig(0, 0, 8, 64, 1, 1, 1, 24, 8, std::nullopt, 5));
  ContextPhaseParams params({1, 2});
  EXPECT_EQ(params.getFirstGenTokens(), (VecTokens{1, 2}));
  EXPECT_EQ(std::move(params).popFirstGenTokens(), (VecTokens{1, 2}));
}

}  // namespace
}  // namespace tensorrt_llm::executor
