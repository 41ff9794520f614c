#include <algorithm>
#include <limits>
#include <ostream>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/version.h"
#include "tensorrt_llm/executor/executor.h"

// What the headers declare of values and do not define in place.
namespace tensorrt_llm::executor {

SamplingConfig::SamplingConfig(
    SizeType32 beamWidth, std::optional<SizeType32> const& topK,
    std::optional<FloatType> const& topP, std::optional<FloatType> const& topPMin,
    std::optional<TokenIdType> const& topPResetIds, std::optional<FloatType> const& topPDecay,
    std::optional<RandomSeedType> const& seed, std::optional<FloatType> const& temperature,
    std::optional<SizeType32> const& minTokens,
    std::optional<FloatType> const& beamSearchDiversityRate,
    std::optional<FloatType> const& repetitionPenalty,
    std::optional<FloatType> const& presencePenalty,
    std::optional<FloatType> const& frequencyPenalty, std::optional<FloatType> const& lengthPenalty,
    std::optional<SizeType32> const& earlyStopping,
    std::optional<SizeType32> const& noRepeatNgramSize,
    std::optional<SizeType32> const& numReturnSequences, std::optional<FloatType> const& minP)
    : beamWidth_(beamWidth),
      topK_(topK),
      topP_(topP),
      topPMin_(topPMin),
      topPResetIds_(topPResetIds),
      topPDecay_(topPDecay),
      seed_(seed),
      temperature_(temperature),
      minTokens_(minTokens),
      beamSearchDiversityRate_(beamSearchDiversityRate),
      repetitionPenalty_(repetitionPenalty),
      presencePenalty_(presencePenalty),
      frequencyPenalty_(frequencyPenalty),
      lengthPenalty_(lengthPenalty),
      earlyStopping_(earlyStopping),
      noRepeatNgramSize_(noRepeatNgramSize),
      numReturnSequences_(numReturnSequences),
      minP_(minP) {}

bool SamplingConfig::operator==(SamplingConfig const& other) const {
  auto const all = [](SamplingConfig const& c) {
    return std::tie(c.beamWidth_, c.topK_, c.topP_, c.topPMin_, c.topPResetIds_, c.topPDecay_,
                    c.seed_, c.temperature_, c.minTokens_, c.beamSearchDiversityRate_,
                    c.repetitionPenalty_, c.presencePenalty_, c.frequencyPenalty_, c.lengthPenalty_,
                    c.earlyStopping_, c.noRepeatNgramSize_, c.numReturnSequences_, c.minP_);
  };
  return all(*this) == all(other);
}

std::tuple<SizeType32, SizeType32, SizeType32, SizeType32>
LookaheadDecodingConfig::calculateSpeculativeResource() const {
  auto const limited = [](std::int64_t value) {
    constexpr std::int64_t kMost = std::numeric_limits<SizeType32>::max();
    return static_cast<SizeType32>(std::clamp(value, -kMost, kMost));
  };
  // The first n-gram of the window is one token shorter than those of its other places and of the
  // verification set, each of which begins with a token that is known.
  std::int64_t const known_beginnings = std::int64_t{windowSize_} + verificationSetSize_ - 1;
  std::int64_t const draft_path = std::int64_t{ngramSize_} - 1;
  std::int64_t product = 0;
  if (__builtin_mul_overflow(known_beginnings, draft_path, &product)) {
    product = std::numeric_limits<SizeType32>::max();
  }
  std::int64_t const drafts = limited(product) + std::max<std::int64_t>(0, draft_path - 1);
  return {limited(drafts + 1), ngramSize_, limited(drafts), limited(draft_path)};
}

Request::Request(VecTokens inputTokenIds, SizeType32 maxTokens, bool streaming,
                 SamplingConfig const& samplingConfig, OutputConfig const& outputConfig,
                 std::optional<SizeType32> const& endId, std::optional<SizeType32> const& padId,
                 std::optional<std::vector<SizeType32>> positionIds,
                 std::optional<std::list<VecTokens>> badWords,
                 std::optional<std::list<VecTokens>> stopWords, std::optional<Tensor> embeddingBias,
                 std::optional<ExternalDraftTokensConfig> externalDraftTokensConfig,
                 std::optional<PromptTuningConfig> pTuningConfig,
                 std::optional<LoraConfig> loraConfig,
                 std::optional<LookaheadDecodingConfig> lookaheadConfig,
                 std::optional<std::string> logitsPostProcessorName,
                 std::optional<VecTokens> encoderInputTokenIds, std::optional<IdType> clientId,
                 bool returnAllGeneratedTokens, PriorityType priority, RequestType type,
                 std::optional<ContextPhaseParams> contextPhaseParams,
                 std::optional<Tensor> encoderInputFeatures,
                 std::optional<SizeType32> encoderOutputLength, SizeType32 numReturnSequences)
    : inputTokenIds_(std::move(inputTokenIds)),
      maxTokens_(maxTokens),
      streaming_(streaming),
      samplingConfig_(samplingConfig),
      outputConfig_(outputConfig),
      endId_(endId),
      padId_(padId),
      positionIds_(std::move(positionIds)),
      badWords_(std::move(badWords)),
      stopWords_(std::move(stopWords)),
      embeddingBias_(std::move(embeddingBias)),
      externalDraftTokensConfig_(std::move(externalDraftTokensConfig)),
      pTuningConfig_(std::move(pTuningConfig)),
      loraConfig_(std::move(loraConfig)),
      lookaheadConfig_(lookaheadConfig),
      logitsPostProcessorName_(std::move(logitsPostProcessorName)),
      encoderInputTokenIds_(std::move(encoderInputTokenIds)),
      clientId_(clientId),
      returnAllGeneratedTokens_(returnAllGeneratedTokens),
      priority_(priority),
      type_(type),
      contextPhaseParams_(std::move(contextPhaseParams)),
      encoderInputFeatures_(std::move(encoderInputFeatures)),
      encoderOutputLength_(encoderOutputLength),
      numReturnSequences_(numReturnSequences) {}

SizeType32 Request::getNumReturnSequences() const {
  return samplingConfig_.getNumReturnSequences().value_or(numReturnSequences_);
}

std::string const& Response::getErrorMsg() const {
  if (!hasError()) {
    headrace::fail(headrace::ErrorCode::kInvalidArgument,
                   "[executor] the response of request {} has no error: use getResult", requestId_);
  }
  return std::get<0>(content_);
}

Result const& Response::getResult() const {
  if (hasError()) throw headrace::Error(headrace::ErrorCode::kInvalidArgument, getErrorMsg());
  return std::get<1>(content_);
}

ExecutorConfig::ExecutorConfig(SizeType32 maxBeamWidth, SchedulerConfig const& schedulerConfig,
                               KvCacheConfig const& kvCacheConfig, bool enableChunkedContext,
                               bool normalizeLogProbs, SizeType32 iterStatsMaxIterations,
                               SizeType32 requestStatsMaxIterations, BatchingType batchingType,
                               std::optional<SizeType32> maxBatchSize,
                               std::optional<SizeType32> maxNumTokens,
                               std::optional<ParallelConfig> parallelConfig,
                               std::optional<PeftCacheConfig> const& peftCacheConfig,
                               std::optional<LogitsPostProcessorConfig> logitsPostProcessorConfig,
                               std::optional<DecodingConfig> decodingConfig,
                               float gpuWeightsPercent, std::optional<SizeType32> maxQueueSize,
                               ExtendedRuntimePerfKnobConfig const& perfKnobConfig,
                               std::optional<DebugConfig> debugConfig, SizeType32 recvPollPeriodMs,
                               std::uint64_t maxSeqIdleMicroseconds)
    : maxBeamWidth_(maxBeamWidth),
      schedulerConfig_(schedulerConfig),
      kvCacheConfig_(kvCacheConfig),
      enableChunkedContext_(enableChunkedContext),
      normalizeLogProbs_(normalizeLogProbs),
      iterStatsMaxIterations_(iterStatsMaxIterations),
      requestStatsMaxIterations_(requestStatsMaxIterations),
      batchingType_(batchingType),
      maxBatchSize_(maxBatchSize),
      maxNumTokens_(maxNumTokens),
      parallelConfig_(std::move(parallelConfig)),
      peftCacheConfig_(peftCacheConfig),
      logitsPostProcessorConfig_(std::move(logitsPostProcessorConfig)),
      decodingConfig_(std::move(decodingConfig)),
      gpuWeightsPercent_(gpuWeightsPercent),
      maxQueueSize_(maxQueueSize),
      extendedRuntimePerfKnobConfig_(perfKnobConfig),
      debugConfig_(std::move(debugConfig)),
      recvPollPeriodMs_(recvPollPeriodMs),
      maxSeqIdleMicroseconds_(maxSeqIdleMicroseconds) {}

std::optional<LogitsPostProcessorMap> ExecutorConfig::getLogitsPostProcessorMap() const {
  if (!logitsPostProcessorConfig_) return std::nullopt;
  return logitsPostProcessorConfig_->getProcessorMap();
}

std::optional<LogitsPostProcessorBatched> ExecutorConfig::getLogitsPostProcessorBatched() const {
  if (!logitsPostProcessorConfig_) return std::nullopt;
  return logitsPostProcessorConfig_->getProcessorBatched();
}

void ExecutorConfig::setLogitsPostProcessorMap(LogitsPostProcessorMap const& value) {
  if (!logitsPostProcessorConfig_) logitsPostProcessorConfig_.emplace();
  logitsPostProcessorConfig_->setProcessorMap(value);
}

void ExecutorConfig::setLogitsPostProcessorBatched(LogitsPostProcessorBatched const& value) {
  if (!logitsPostProcessorConfig_) logitsPostProcessorConfig_.emplace();
  logitsPostProcessorConfig_->setProcessorBatched(value);
}

std::ostream& operator<<(std::ostream& os, CapacitySchedulerPolicy policy) {
  return os << (policy == CapacitySchedulerPolicy::kMAX_UTILIZATION ? "MAX_UTILIZATION"
                                                                    : "GUARANTEED_NO_EVICT");
}

std::ostream& operator<<(std::ostream& os, ContextChunkingPolicy policy) {
  return os << (policy == ContextChunkingPolicy::kEQUAL_PROGRESS ? "EQUAL_PROGRESS"
                                                                 : "FIRST_COME_FIRST_SERVED");
}

char const* version() noexcept { return headrace::version(); }

}  // namespace tensorrt_llm::executor
