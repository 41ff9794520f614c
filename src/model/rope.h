#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/model_config.h"

namespace headrace {

class ThreadPool;

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

/// Cosines and sines of positions, computed once each: the sequences of a pass share them, and so
/// do passes. Used by one thread.
class RopeTable {
 public:
  explicit RopeTable(const ModelConfig& config) : rope_(config) {}

  /// Makes the positions [0, end) available; what is missing is computed by the pool's threads.
  void cover(int64_t end, ThreadPool& pool);

  /// head_size / 2 values each. REQUIRES: covered. Any thread, between calls of cover().
  std::span<const float> cos(int64_t position) const { return row(cos_, position); }
  std::span<const float> sin(int64_t position) const { return row(sin_, position); }

 private:
  size_t pairs() const { return rope_.inverse_frequencies().size(); }
  std::span<const float> row(const std::vector<float>& values, int64_t position) const {
    return std::span(values).subspan(static_cast<size_t>(position) * pairs(), pairs());
  }

  const Rope rope_;
  int64_t covered_ = 0;
  std::vector<float> cos_;  // [covered_, head_size / 2]
  std::vector<float> sin_;
};

}  // namespace headrace
