#pragma once

#include <optional>

#include "tensorrt_llm/executor/types.h"

namespace tensorrt_llm::executor {

/// How the tokens of a request are chosen. What is not set has upstream's default: greedy, without
/// penalties. Values are checked when the request is enqueued.
class SamplingConfig {
 public:
  explicit SamplingConfig(SizeType32 beamWidth = 1,
                          std::optional<SizeType32> const& topK = std::nullopt,
                          std::optional<FloatType> const& topP = std::nullopt,
                          std::optional<FloatType> const& topPMin = std::nullopt,
                          std::optional<TokenIdType> const& topPResetIds = std::nullopt,
                          std::optional<FloatType> const& topPDecay = std::nullopt,
                          std::optional<RandomSeedType> const& seed = std::nullopt,
                          std::optional<FloatType> const& temperature = std::nullopt,
                          std::optional<SizeType32> const& minTokens = std::nullopt,
                          std::optional<FloatType> const& beamSearchDiversityRate = std::nullopt,
                          std::optional<FloatType> const& repetitionPenalty = std::nullopt,
                          std::optional<FloatType> const& presencePenalty = std::nullopt,
                          std::optional<FloatType> const& frequencyPenalty = std::nullopt,
                          std::optional<FloatType> const& lengthPenalty = std::nullopt,
                          std::optional<SizeType32> const& earlyStopping = std::nullopt,
                          std::optional<SizeType32> const& noRepeatNgramSize = std::nullopt,
                          std::optional<SizeType32> const& numReturnSequences = std::nullopt,
                          std::optional<FloatType> const& minP = std::nullopt);

  bool operator==(SamplingConfig const& other) const;

  [[nodiscard]] SizeType32 getBeamWidth() const { return beamWidth_; }
  [[nodiscard]] std::optional<SizeType32> getTopK() const { return topK_; }
  [[nodiscard]] std::optional<FloatType> getTopP() const { return topP_; }
  [[nodiscard]] std::optional<FloatType> getTopPMin() const { return topPMin_; }
  [[nodiscard]] std::optional<TokenIdType> getTopPResetIds() const { return topPResetIds_; }
  [[nodiscard]] std::optional<FloatType> getTopPDecay() const { return topPDecay_; }
  [[nodiscard]] std::optional<RandomSeedType> getSeed() const { return seed_; }
  [[nodiscard]] std::optional<RandomSeedType> getRandomSeed() const { return seed_; }
  [[nodiscard]] std::optional<FloatType> getTemperature() const { return temperature_; }
  [[nodiscard]] std::optional<SizeType32> getMinTokens() const { return minTokens_; }
  [[nodiscard]] std::optional<SizeType32> getMinLength() const { return minTokens_; }
  [[nodiscard]] std::optional<FloatType> getBeamSearchDiversityRate() const {
    return beamSearchDiversityRate_;
  }
  [[nodiscard]] std::optional<FloatType> getRepetitionPenalty() const { return repetitionPenalty_; }
  [[nodiscard]] std::optional<FloatType> getPresencePenalty() const { return presencePenalty_; }
  [[nodiscard]] std::optional<FloatType> getFrequencyPenalty() const { return frequencyPenalty_; }
  [[nodiscard]] std::optional<FloatType> getLengthPenalty() const { return lengthPenalty_; }
  [[nodiscard]] std::optional<SizeType32> getEarlyStopping() const { return earlyStopping_; }
  [[nodiscard]] std::optional<SizeType32> getNoRepeatNgramSize() const {
    return noRepeatNgramSize_;
  }
  [[nodiscard]] std::optional<SizeType32> getNumReturnSequences() const {
    return numReturnSequences_;
  }
  [[nodiscard]] std::optional<FloatType> getMinP() const { return minP_; }

  void setBeamWidth(SizeType32 value) { beamWidth_ = value; }
  void setTopK(std::optional<SizeType32> const& value) { topK_ = value; }
  void setTopP(std::optional<FloatType> const& value) { topP_ = value; }
  void setTopPMin(std::optional<FloatType> const& value) { topPMin_ = value; }
  void setTopPResetIds(std::optional<TokenIdType> const& value) { topPResetIds_ = value; }
  void setTopPDecay(std::optional<FloatType> const& value) { topPDecay_ = value; }
  void setSeed(std::optional<RandomSeedType> const& value) { seed_ = value; }
  void setRandomSeed(std::optional<RandomSeedType> const& value) { seed_ = value; }
  void setTemperature(std::optional<FloatType> const& value) { temperature_ = value; }
  void setMinTokens(std::optional<SizeType32> const& value) { minTokens_ = value; }
  void setMinLength(std::optional<SizeType32> const& value) { minTokens_ = value; }
  void setBeamSearchDiversityRate(std::optional<FloatType> const& value) {
    beamSearchDiversityRate_ = value;
  }
  void setRepetitionPenalty(std::optional<FloatType> const& value) { repetitionPenalty_ = value; }
  void setPresencePenalty(std::optional<FloatType> const& value) { presencePenalty_ = value; }
  void setFrequencyPenalty(std::optional<FloatType> const& value) { frequencyPenalty_ = value; }
  void setLengthPenalty(std::optional<FloatType> const& value) { lengthPenalty_ = value; }
  void setEarlyStopping(std::optional<SizeType32> const& value) { earlyStopping_ = value; }
  void setNoRepeatNgramSize(std::optional<SizeType32> const& value) { noRepeatNgramSize_ = value; }
  /// Without beams, sequences drawn apart; with, the first beams.
  void setNumReturnSequences(std::optional<SizeType32> const& value) {
    numReturnSequences_ = value;
  }
  void setMinP(std::optional<FloatType> const& value) { minP_ = value; }

 private:
  SizeType32 beamWidth_;
  std::optional<SizeType32> topK_;
  std::optional<FloatType> topP_;
  std::optional<FloatType> topPMin_;
  std::optional<TokenIdType> topPResetIds_;
  std::optional<FloatType> topPDecay_;
  std::optional<RandomSeedType> seed_;
  std::optional<FloatType> temperature_;
  std::optional<SizeType32> minTokens_;
  std::optional<FloatType> beamSearchDiversityRate_;
  std::optional<FloatType> repetitionPenalty_;
  std::optional<FloatType> presencePenalty_;
  std::optional<FloatType> frequencyPenalty_;
  std::optional<FloatType> lengthPenalty_;
  std::optional<SizeType32> earlyStopping_;
  std::optional<SizeType32> noRepeatNgramSize_;
  std::optional<SizeType32> numReturnSequences_;
  std::optional<FloatType> minP_;
};

}  // namespace tensorrt_llm::executor
