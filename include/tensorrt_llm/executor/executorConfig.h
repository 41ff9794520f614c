#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "tensorrt_llm/executor/executorConfigParts.h"
#include "tensorrt_llm/executor/peftCacheConfig.h"
#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::executor {

inline constexpr SizeType32 kDefaultIterStatsMaxIterations = 1000;
inline constexpr SizeType32 kDefaultRequestStatsMaxIterations = 0;
inline constexpr std::uint64_t kDefaultMaxSeqIdleMicroseconds = 180000000;

/// How an executor runs. A plain value; the executor checks it.
class ExecutorConfig {
 public:
  explicit ExecutorConfig(
      SizeType32 maxBeamWidth = 1, SchedulerConfig const& schedulerConfig = SchedulerConfig(),
      KvCacheConfig const& kvCacheConfig = KvCacheConfig(), bool enableChunkedContext = false,
      bool normalizeLogProbs = true,
      SizeType32 iterStatsMaxIterations = kDefaultIterStatsMaxIterations,
      SizeType32 requestStatsMaxIterations = kDefaultRequestStatsMaxIterations,
      BatchingType batchingType = BatchingType::kINFLIGHT,
      std::optional<SizeType32> maxBatchSize = std::nullopt,
      std::optional<SizeType32> maxNumTokens = std::nullopt,
      std::optional<ParallelConfig> parallelConfig = std::nullopt,
      std::optional<PeftCacheConfig> const& peftCacheConfig = std::nullopt,
      std::optional<LogitsPostProcessorConfig> logitsPostProcessorConfig = std::nullopt,
      std::optional<DecodingConfig> decodingConfig = std::nullopt, float gpuWeightsPercent = 1,
      std::optional<SizeType32> maxQueueSize = std::nullopt,
      ExtendedRuntimePerfKnobConfig const& perfKnobConfig = ExtendedRuntimePerfKnobConfig(),
      std::optional<DebugConfig> debugConfig = std::nullopt, SizeType32 recvPollPeriodMs = 0,
      std::uint64_t maxSeqIdleMicroseconds = kDefaultMaxSeqIdleMicroseconds);

  /// One floating-point value is gpuWeightsPercent, as TensorRT-LLM's page on weight streaming
  /// writes it: ExecutorConfig(gpuWeightsPercent = 0.5).
  template <typename T, std::enable_if_t<std::is_floating_point_v<T>, int> = 0>
  explicit ExecutorConfig(T gpuWeightsPercent) : ExecutorConfig() {
    gpuWeightsPercent_ = static_cast<float>(gpuWeightsPercent);
  }

  [[nodiscard]] SizeType32 getMaxBeamWidth() const { return maxBeamWidth_; }
  [[nodiscard]] SchedulerConfig getSchedulerConfig() const { return schedulerConfig_; }
  [[nodiscard]] KvCacheConfig getKvCacheConfig() const { return kvCacheConfig_; }
  [[nodiscard]] bool getEnableChunkedContext() const { return enableChunkedContext_; }
  [[nodiscard]] bool getNormalizeLogProbs() const { return normalizeLogProbs_; }
  [[nodiscard]] SizeType32 getIterStatsMaxIterations() const { return iterStatsMaxIterations_; }
  [[nodiscard]] SizeType32 getRequestStatsMaxIterations() const {
    return requestStatsMaxIterations_;
  }
  [[nodiscard]] BatchingType getBatchingType() const { return batchingType_; }
  [[nodiscard]] std::optional<SizeType32> getMaxBatchSize() const { return maxBatchSize_; }
  [[nodiscard]] std::optional<SizeType32> getMaxNumTokens() const { return maxNumTokens_; }
  [[nodiscard]] std::optional<ParallelConfig> getParallelConfig() const { return parallelConfig_; }
  [[nodiscard]] std::optional<PeftCacheConfig> getPeftCacheConfig() const {
    return peftCacheConfig_;
  }
  [[nodiscard]] std::optional<LogitsPostProcessorConfig> getLogitsPostProcessorConfig() const {
    return logitsPostProcessorConfig_;
  }
  [[nodiscard]] std::optional<DecodingConfig> getDecodingConfig() const { return decodingConfig_; }
  [[nodiscard]] float getGpuWeightsPercent() const { return gpuWeightsPercent_; }
  [[nodiscard]] std::optional<SizeType32> getMaxQueueSize() const { return maxQueueSize_; }
  [[nodiscard]] ExtendedRuntimePerfKnobConfig getExtendedRuntimePerfKnobConfig() const {
    return extendedRuntimePerfKnobConfig_;
  }
  [[nodiscard]] std::optional<DebugConfig> getDebugConfig() const { return debugConfig_; }
  [[nodiscard]] SizeType32 getRecvPollPeriodMs() const { return recvPollPeriodMs_; }
  [[nodiscard]] std::uint64_t getMaxSeqIdleMicroseconds() const { return maxSeqIdleMicroseconds_; }

  void setMaxBeamWidth(SizeType32 value) { maxBeamWidth_ = value; }
  void setSchedulerConfig(SchedulerConfig const& value) { schedulerConfig_ = value; }
  void setKvCacheConfig(KvCacheConfig const& value) { kvCacheConfig_ = value; }
  void setEnableChunkedContext(bool value) { enableChunkedContext_ = value; }
  void setNormalizeLogProbs(bool value) { normalizeLogProbs_ = value; }
  void setIterStatsMaxIterations(SizeType32 value) { iterStatsMaxIterations_ = value; }
  void setRequestStatsMaxIterations(SizeType32 value) { requestStatsMaxIterations_ = value; }
  void setBatchingType(BatchingType value) { batchingType_ = value; }
  void setMaxBatchSize(SizeType32 value) { maxBatchSize_ = value; }
  void setMaxNumTokens(SizeType32 value) { maxNumTokens_ = value; }
  void setParallelConfig(ParallelConfig const& value) { parallelConfig_ = value; }
  void setPeftCacheConfig(PeftCacheConfig const& value) { peftCacheConfig_ = value; }
  void setLogitsPostProcessorConfig(LogitsPostProcessorConfig const& value) {
    logitsPostProcessorConfig_ = value;
  }
  void setDecodingConfig(DecodingConfig const& value) { decodingConfig_ = value; }
  void setGpuWeightsPercent(float const& value) { gpuWeightsPercent_ = value; }
  void setMaxQueueSize(std::optional<SizeType32> const& value) { maxQueueSize_ = value; }
  void setExtendedRuntimePerfKnobConfig(ExtendedRuntimePerfKnobConfig const& value) {
    extendedRuntimePerfKnobConfig_ = value;
  }
  void setDebugConfig(DebugConfig const& value) { debugConfig_ = value; }
  void setRecvPollPeriodMs(SizeType32 const& value) { recvPollPeriodMs_ = value; }
  void setMaxSeqIdleMicroseconds(std::uint64_t value) { maxSeqIdleMicroseconds_ = value; }

  // Names up to v0.12, before LogitsPostProcessorConfig.
  [[nodiscard]] std::optional<LogitsPostProcessorMap> getLogitsPostProcessorMap() const;
  [[nodiscard]] std::optional<LogitsPostProcessorBatched> getLogitsPostProcessorBatched() const;
  void setLogitsPostProcessorMap(LogitsPostProcessorMap const& value);
  void setLogitsPostProcessorBatched(LogitsPostProcessorBatched const& value);

 private:
  SizeType32 maxBeamWidth_;
  SchedulerConfig schedulerConfig_;
  KvCacheConfig kvCacheConfig_;
  bool enableChunkedContext_;
  bool normalizeLogProbs_;
  SizeType32 iterStatsMaxIterations_;
  SizeType32 requestStatsMaxIterations_;
  BatchingType batchingType_;
  std::optional<SizeType32> maxBatchSize_;
  std::optional<SizeType32> maxNumTokens_;
  std::optional<ParallelConfig> parallelConfig_;
  std::optional<PeftCacheConfig> peftCacheConfig_;
  std::optional<LogitsPostProcessorConfig> logitsPostProcessorConfig_;
  std::optional<DecodingConfig> decodingConfig_;
  float gpuWeightsPercent_;
  std::optional<SizeType32> maxQueueSize_;
  ExtendedRuntimePerfKnobConfig extendedRuntimePerfKnobConfig_;
  std::optional<DebugConfig> debugConfig_;
  SizeType32 recvPollPeriodMs_;
  std::uint64_t maxSeqIdleMicroseconds_;
};

}  // namespace tensorrt_llm::executor
