#pragma once

#include <cstdint>

namespace tensorrt_llm::executor {

/// How tokens are decoded. Here every request may sample or search with beams, whatever the mode;
/// modes of speculative decoding are refused by the executor.
class DecodingMode {
 public:
  static constexpr DecodingMode Auto() { return DecodingMode(kAuto); }
  static constexpr DecodingMode TopK() { return DecodingMode(kTopK); }
  static constexpr DecodingMode TopP() { return DecodingMode(kTopP); }
  static constexpr DecodingMode TopKTopP() { return DecodingMode(kTopK | kTopP); }
  static constexpr DecodingMode BeamSearch() { return DecodingMode(kBeamSearch); }
  static constexpr DecodingMode Medusa() { return DecodingMode(kMedusa); }
  static constexpr DecodingMode Lookahead() { return DecodingMode(kLookahead); }
  static constexpr DecodingMode ExplicitDraftTokens() { return DecodingMode(kDraftTokens); }

  constexpr bool isAuto() const { return has(kAuto); }
  constexpr bool isTopK() const { return has(kTopK); }
  constexpr bool isTopP() const { return has(kTopP); }
  constexpr bool isTopKorTopP() const { return has(kTopK | kTopP); }
  constexpr bool isTopKandTopP() const { return isTopK() && isTopP(); }
  constexpr bool isBeamSearch() const { return has(kBeamSearch); }
  constexpr bool isMedusa() const { return has(kMedusa); }
  constexpr bool isLookahead() const { return has(kLookahead); }
  constexpr bool isExplicitDraftTokens() const { return has(kDraftTokens); }

  using UnderlyingType = std::uint32_t;
  explicit constexpr DecodingMode(UnderlyingType state) : state_(state) {}
  constexpr UnderlyingType getState() const { return state_; }
  friend constexpr bool operator==(DecodingMode a, DecodingMode b) { return a.state_ == b.state_; }

 private:
  static constexpr UnderlyingType kAuto = 1;
  static constexpr UnderlyingType kTopK = 2;
  static constexpr UnderlyingType kTopP = 4;
  static constexpr UnderlyingType kBeamSearch = 8;
  static constexpr UnderlyingType kMedusa = 16;
  static constexpr UnderlyingType kLookahead = 32;
  static constexpr UnderlyingType kDraftTokens = 64;

  constexpr bool has(UnderlyingType bits) const { return (state_ & bits) != 0; }

  UnderlyingType state_;
};

}  // namespace tensorrt_llm::executor
