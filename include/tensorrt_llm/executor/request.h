#pragma once

#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensorrt_llm/executor/requestParts.h"
#include "tensorrt_llm/executor/samplingConfig.h"
#include "tensorrt_llm/executor/tensor.h"
#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::executor {

/// One prompt and what to make of it. A plain value; nothing is checked before it is enqueued.
class Request {
 public:
  static constexpr PriorityType kDefaultPriority = 0.5;
  /// As logitsPostProcessorName: the batched logits post-processor.
  static constexpr auto kBatchedPostProcessorName = "batched";

  Request(VecTokens inputTokenIds, SizeType32 maxTokens, bool streaming = false,
          SamplingConfig const& samplingConfig = SamplingConfig(),
          OutputConfig const& outputConfig = OutputConfig(),
          std::optional<SizeType32> const& endId = std::nullopt,
          std::optional<SizeType32> const& padId = std::nullopt,
          std::optional<std::vector<SizeType32>> positionIds = std::nullopt,
          std::optional<std::list<VecTokens>> badWords = std::nullopt,
          std::optional<std::list<VecTokens>> stopWords = std::nullopt,
          std::optional<Tensor> embeddingBias = std::nullopt,
          std::optional<ExternalDraftTokensConfig> externalDraftTokensConfig = std::nullopt,
          std::optional<PromptTuningConfig> pTuningConfig = std::nullopt,
          std::optional<LoraConfig> loraConfig = std::nullopt,
          std::optional<LookaheadDecodingConfig> lookaheadConfig = std::nullopt,
          std::optional<std::string> logitsPostProcessorName = std::nullopt,
          std::optional<VecTokens> encoderInputTokenIds = std::nullopt,
          std::optional<IdType> clientId = std::nullopt, bool returnAllGeneratedTokens = false,
          PriorityType priority = kDefaultPriority,
          RequestType type = RequestType::REQUEST_TYPE_CONTEXT_AND_GENERATION,
          std::optional<ContextPhaseParams> contextPhaseParams = std::nullopt,
          std::optional<Tensor> encoderInputFeatures = std::nullopt,
          std::optional<SizeType32> encoderOutputLength = std::nullopt,
          SizeType32 numReturnSequences = 1);

  [[nodiscard]] VecTokens getInputTokenIds() const { return inputTokenIds_; }
  [[nodiscard]] SizeType32 getMaxTokens() const { return maxTokens_; }
  [[nodiscard]] SizeType32 getMaxNewTokens() const { return maxTokens_; }
  [[nodiscard]] bool getStreaming() const { return streaming_; }
  [[nodiscard]] SamplingConfig getSamplingConfig() const { return samplingConfig_; }
  [[nodiscard]] OutputConfig getOutputConfig() const { return outputConfig_; }
  [[nodiscard]] std::optional<SizeType32> getEndId() const { return endId_; }
  [[nodiscard]] std::optional<SizeType32> getPadId() const { return padId_; }
  [[nodiscard]] std::optional<std::vector<SizeType32>> getPositionIds() const {
    return positionIds_;
  }
  [[nodiscard]] std::optional<std::list<VecTokens>> getBadWords() const { return badWords_; }
  [[nodiscard]] std::optional<std::list<VecTokens>> getStopWords() const { return stopWords_; }
  [[nodiscard]] std::optional<Tensor> getEmbeddingBias() const { return embeddingBias_; }
  [[nodiscard]] std::optional<ExternalDraftTokensConfig> getExternalDraftTokensConfig() const {
    return externalDraftTokensConfig_;
  }
  [[nodiscard]] std::optional<PromptTuningConfig> getPromptTuningConfig() const {
    return pTuningConfig_;
  }
  [[nodiscard]] std::optional<LoraConfig> getLoraConfig() const { return loraConfig_; }
  [[nodiscard]] std::optional<LookaheadDecodingConfig> getLookaheadConfig() const {
    return lookaheadConfig_;
  }
  [[nodiscard]] std::optional<std::string> getLogitsPostProcessorName() const {
    return logitsPostProcessorName_;
  }
  [[nodiscard]] std::optional<VecTokens> getEncoderInputTokenIds() const {
    return encoderInputTokenIds_;
  }
  [[nodiscard]] std::optional<IdType> getClientId() const { return clientId_; }
  [[nodiscard]] bool getReturnAllGeneratedTokens() const { return returnAllGeneratedTokens_; }
  [[nodiscard]] PriorityType getPriority() const { return priority_; }
  [[nodiscard]] RequestType getRequestType() const { return type_; }
  [[nodiscard]] std::optional<ContextPhaseParams> const& getContextPhaseParams() const {
    return contextPhaseParams_;
  }
  [[nodiscard]] std::optional<Tensor> getEncoderInputFeatures() const {
    return encoderInputFeatures_;
  }
  [[nodiscard]] std::optional<SizeType32> getEncoderOutputLength() const {
    return encoderOutputLength_;
  }
  [[nodiscard]] SizeType32 getNumReturnSequences() const;

  void setStreaming(bool value) { streaming_ = value; }
  void setSamplingConfig(SamplingConfig const& value) { samplingConfig_ = value; }
  void setOutputConfig(OutputConfig const& value) { outputConfig_ = value; }
  void setEndId(SizeType32 value) { endId_ = value; }
  void setPadId(SizeType32 value) { padId_ = value; }
  void setPositionIds(std::vector<SizeType32> const& value) { positionIds_ = value; }
  void setBadWords(std::list<VecTokens> const& value) { badWords_ = value; }
  void setStopWords(std::list<VecTokens> const& value) { stopWords_ = value; }
  void setEmbeddingBias(Tensor const& value) { embeddingBias_ = value; }
  void setExternalDraftTokensConfig(ExternalDraftTokensConfig const& value) {
    externalDraftTokensConfig_ = value;
  }
  void setPromptTuningConfig(PromptTuningConfig const& value) { pTuningConfig_ = value; }
  void setLoraConfig(LoraConfig const& value) { loraConfig_ = value; }
  void setLookaheadConfig(LookaheadDecodingConfig const& value) { lookaheadConfig_ = value; }
  void setLogitsPostProcessorName(std::string const& value) { logitsPostProcessorName_ = value; }
  void setEncoderInputTokenIds(VecTokens const& value) { encoderInputTokenIds_ = value; }
  void setClientId(IdType value) { clientId_ = value; }
  void setPriority(PriorityType value) { priority_ = value; }
  void setReturnAllGeneratedTokens(bool value) { returnAllGeneratedTokens_ = value; }
  void setRequestType(RequestType const& value) { type_ = value; }
  void setContextPhaseParams(ContextPhaseParams value) { contextPhaseParams_ = std::move(value); }
  void setEncoderInputFeatures(Tensor value) { encoderInputFeatures_ = std::move(value); }
  void setEncoderOutputLength(SizeType32 value) { encoderOutputLength_ = value; }
  void setNumReturnSequences(SizeType32 value) { numReturnSequences_ = value; }

 private:
  VecTokens inputTokenIds_;
  SizeType32 maxTokens_;
  bool streaming_;
  SamplingConfig samplingConfig_;
  OutputConfig outputConfig_;
  std::optional<SizeType32> endId_;
  std::optional<SizeType32> padId_;
  std::optional<std::vector<SizeType32>> positionIds_;
  std::optional<std::list<VecTokens>> badWords_;
  std::optional<std::list<VecTokens>> stopWords_;
  std::optional<Tensor> embeddingBias_;  // fp32, [vocab_size]
  std::optional<ExternalDraftTokensConfig> externalDraftTokensConfig_;
  std::optional<PromptTuningConfig> pTuningConfig_;
  std::optional<LoraConfig> loraConfig_;
  std::optional<LookaheadDecodingConfig> lookaheadConfig_;
  std::optional<std::string> logitsPostProcessorName_;
  std::optional<VecTokens> encoderInputTokenIds_;
  std::optional<IdType> clientId_;
  bool returnAllGeneratedTokens_;
  PriorityType priority_;
  RequestType type_;
  std::optional<ContextPhaseParams> contextPhaseParams_;
  std::optional<Tensor> encoderInputFeatures_;
  std::optional<SizeType32> encoderOutputLength_;
  SizeType32 numReturnSequences_;
};

}  // namespace tensorrt_llm::executor
