#include "sampling/beam_logits.h"

#include <algorithm>

#include "base/error.h"

namespace headrace {

void BeamLogits::add(int64_t step, std::span<const float> logits) {
  const auto known = static_cast<size_t>(step);
  HR_CHECK(step >= 0 && known <= steps_.size() && logits.size() % vocab_size_ == 0);
  steps_.resize(known);
  steps_.emplace_back(logits.begin(), logits.end());
}

std::span<const float> BeamLogits::row(const BeamHypothesis& beam, size_t step) const {
  const auto begin = static_cast<size_t>(beam.rows.at(step)) * vocab_size_;
  return std::span(steps_.at(step)).subspan(begin, vocab_size_);
}

std::vector<float> BeamLogits::gather(std::span<const BeamHypothesis> beams) const {
  const size_t steps = longest(beams);
  std::vector<float> all(beams.size() * steps * vocab_size_);
  for (size_t i = 0; i < beams.size(); ++i) {
    for (size_t step = 0; step < beams[i].rows.size(); ++step) {
      const size_t begin = (i * steps + step) * vocab_size_;
      std::ranges::copy(row(beams[i], step), all.begin() + static_cast<ptrdiff_t>(begin));
    }
  }
  return all;
}

size_t longest(std::span<const BeamHypothesis> beams) {
  size_t steps = 0;
  for (const BeamHypothesis& beam : beams) steps = std::max(steps, beam.rows.size());
  return steps;
}

}  // namespace headrace
