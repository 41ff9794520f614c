#pragma once

#include <optional>
#include <tuple>
#include <utility>

#include "tensorrt_llm/executor/tensor.h"
#include "tensorrt_llm/executor/types.h"

// What a Request holds beside its prompt. All but OutputConfig are features that Headrace does not
// have: the values can be made, and a request that holds one is refused when it is enqueued.
namespace tensorrt_llm::executor {

/// What a Result holds beside tokens.
class OutputConfig {
 public:
  explicit OutputConfig(bool inReturnLogProbs = false, bool inReturnContextLogits = false,
                        bool inReturnGenerationLogits = false,
                        bool inExcludeInputFromOutput = false, bool inReturnEncoderOutput = false)
      : returnLogProbs(inReturnLogProbs),
        returnContextLogits(inReturnContextLogits),
        returnGenerationLogits(inReturnGenerationLogits),
        excludeInputFromOutput(inExcludeInputFromOutput),
        returnEncoderOutput(inReturnEncoderOutput) {}

  bool returnLogProbs;
  bool returnContextLogits;
  bool returnGenerationLogits;
  bool excludeInputFromOutput;
  bool returnEncoderOutput;  // not supported here
};

/// Draft tokens of a speculative decoder. Not supported here.
class ExternalDraftTokensConfig {
 public:
  explicit ExternalDraftTokensConfig(
      VecTokens tokens, std::optional<Tensor> logits = std::nullopt,
      std::optional<FloatType> const& acceptanceThreshold = std::nullopt)
      : tokens_(std::move(tokens)),
        logits_(std::move(logits)),
        acceptanceThreshold_(acceptanceThreshold) {}

  [[nodiscard]] VecTokens getTokens() const { return tokens_; }
  [[nodiscard]] std::optional<Tensor> getLogits() const { return logits_; }
  [[nodiscard]] std::optional<FloatType> getAcceptanceThreshold() const {
    return acceptanceThreshold_;
  }

 private:
  VecTokens tokens_;
  std::optional<Tensor> logits_;
  std::optional<FloatType> acceptanceThreshold_;
};

/// Prompt tuning. Not supported here.
class PromptTuningConfig {
 public:
  explicit PromptTuningConfig(Tensor embeddingTable,
                              std::optional<VecTokenExtraIds> inputTokenExtraIds = std::nullopt)
      : embeddingTable_(std::move(embeddingTable)),
        inputTokenExtraIds_(std::move(inputTokenExtraIds)) {}

  [[nodiscard]] Tensor getEmbeddingTable() const { return embeddingTable_; }
  [[nodiscard]] std::optional<VecTokenExtraIds> getInputTokenExtraIds() const {
    return inputTokenExtraIds_;
  }

 private:
  Tensor embeddingTable_;
  std::optional<VecTokenExtraIds> inputTokenExtraIds_;
};

/// LoRA. Not supported here.
class LoraConfig {
 public:
  explicit LoraConfig(IdType taskId, std::optional<Tensor> weights = std::nullopt,
                      std::optional<Tensor> config = std::nullopt)
      : taskId_(taskId), weights_(std::move(weights)), config_(std::move(config)) {}

  [[nodiscard]] IdType getTaskId() const { return taskId_; }
  [[nodiscard]] std::optional<Tensor> getWeights() const { return weights_; }
  [[nodiscard]] std::optional<Tensor> getConfig() const { return config_; }

 private:
  IdType taskId_;
  std::optional<Tensor> weights_;
  std::optional<Tensor> config_;
};

/// Lookahead decoding. Not supported here.
class LookaheadDecodingConfig {
 public:
  explicit LookaheadDecodingConfig(SizeType32 windowSize = 1, SizeType32 ngramSize = 1,
                                   SizeType32 verificationSetSize = 0)
      : windowSize_(windowSize), ngramSize_(ngramSize), verificationSetSize_(verificationSetSize) {}

  bool operator==(LookaheadDecodingConfig const& other) const { return get() == other.get(); }
  [[nodiscard]] std::tuple<SizeType32, SizeType32, SizeType32> get() const {
    return {windowSize_, ngramSize_, verificationSetSize_};
  }
  [[nodiscard]] SizeType32 getWindowSize() const { return windowSize_; }
  [[nodiscard]] SizeType32 getNgramSize() const { return ngramSize_; }
  [[nodiscard]] SizeType32 getVerificationSetSize() const { return verificationSetSize_; }
  /// Whether there can be such a search: windows and n-grams of 1 or more, verification sets of 0
  /// or more. N-grams of 1 look nothing ahead: they go with a window of 1 and no verification set.
  static bool isLegal(SizeType32 windowSize, SizeType32 ngramSize,
                      SizeType32 verificationSetSize) noexcept {
    if (ngramSize == 1) return windowSize == 1 && verificationSetSize == 0;
    return windowSize >= 1 && ngramSize > 1 && verificationSetSize >= 0;
  }
  /// Whether this could be run with what was set aside for `that`: no part is larger.
  [[nodiscard]] bool isLE(LookaheadDecodingConfig const& that) const {
    return windowSize_ <= that.windowSize_ && ngramSize_ <= that.ngramSize_ &&
           verificationSetSize_ <= that.verificationSetSize_;
  }
  /// What a step would need at most: tokens to decode, length of a path, draft tokens, and length
  /// of a draft. Numbers beyond SizeType32 are its largest.
  [[nodiscard]] std::tuple<SizeType32, SizeType32, SizeType32, SizeType32>
  calculateSpeculativeResource() const;

 private:
  SizeType32 windowSize_;
  SizeType32 ngramSize_;
  SizeType32 verificationSetSize_;
};

/// What a context-only executor hands to one that generates. Not supported here.
class ContextPhaseParams {
 public:
  explicit ContextPhaseParams(VecTokens firstGenTokens)
      : firstGenTokens_(std::move(firstGenTokens)) {}

  [[nodiscard]] VecTokens const& getFirstGenTokens() const& noexcept { return firstGenTokens_; }
  /// Moves them out.
  [[nodiscard]] VecTokens popFirstGenTokens() && noexcept { return std::move(firstGenTokens_); }
  bool operator==(ContextPhaseParams const& other) const {
    return firstGenTokens_ == other.firstGenTokens_;
  }

 private:
  VecTokens firstGenTokens_;
};

}  // namespace tensorrt_llm::executor
