#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sampling/finished_beams.h"

namespace headrace {

/// The logits of a beam search's steps, until it is known which of them its outputs were chosen
/// from. Holds what it is given: up to steps x beam_width rows of vocab_size floats. Confined to
/// one thread.
class BeamLogits {
 public:
  explicit BeamLogits(int64_t vocab_size) : vocab_size_(static_cast<size_t>(vocab_size)) {}

  /// Logits [rows, vocab_size] of step `step`, which follows the last one; a search that was begun
  /// anew comes by earlier steps again.
  void add(int64_t step, std::span<const float> logits);

  /// The row that token `step` of `beam`, an output of the search, was chosen from.
  std::span<const float> row(const BeamHypothesis& beam, size_t step) const;

  /// Rows of all `beams` [beams, steps of the longest, vocab_size]: zeros behind a beam's end.
  std::vector<float> gather(std::span<const BeamHypothesis> beams) const;

  /// Gives the memory back.
  void clear() { steps_ = {}; }

 private:
  size_t vocab_size_;
  std::vector<std::vector<float>> steps_;
};

/// Steps of the longest of `beams`.
size_t longest(std::span<const BeamHypothesis> beams);

}  // namespace headrace
