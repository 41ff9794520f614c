#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"

namespace headrace {

/// Rotary position frequencies (Su et al. 2021, equation 15) with the scalings that checkpoints
/// use. Computed in float32 step by step as transformers does, since at position 8,000 the rounding
/// of the angle is larger than anything else in the pass. Immutable.
class Rope {
 public:
  explicit Rope(const ModelConfig& config);

  /// head_size / 2 angular frequencies, radians per position.
  std::span<const float> inverse_frequencies() const { return inverse_frequencies_; }

  /// Writes cos and sin of position x frequency, head_size / 2 values each.
  void fill(int64_t position, std::span<float> cos, std::span<float> sin) const;

 private:
  std::vector<float> inverse_frequencies_;
};

}  // namespace headrace
