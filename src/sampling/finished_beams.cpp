#include "sampling/finished_beams.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace headrace {

float FinishedBeams::score(float cumulative_log_prob, int64_t tokens) const {
  const double divisor =
      std::pow(static_cast<double>(tokens), static_cast<double>(length_penalty_));
  // A penalty without measure would make 0 / 0 of a certain output.
  return cumulative_log_prob /
         static_cast<float>(std::clamp(divisor, double{std::numeric_limits<float>::min()},
                                       double{std::numeric_limits<float>::max()}));
}

void FinishedBeams::add(BeamHypothesis hypothesis) {
  const auto place = std::ranges::upper_bound(hypotheses_, hypothesis.score, std::ranges::greater{},
                                              &BeamHypothesis::score);
  if (place == hypotheses_.end() && hypotheses_.size() == most_) return;
  hypotheses_.insert(place, std::move(hypothesis));
  if (hypotheses_.size() > most_) hypotheses_.pop_back();
}

bool FinishedBeams::settled(float cumulative_log_prob, int64_t tokens) const {
  if (hypotheses_.size() < most_) return false;
  if (early_stopping_ == EarlyStopping::kWhenFull) return true;
  // A longer output scores higher only if the length is rewarded.
  const bool goes_on = early_stopping_ == EarlyStopping::kNever && length_penalty_ > 0;
  return score(cumulative_log_prob, goes_on ? max_tokens_ : tokens) <= hypotheses_.back().score;
}

}  // namespace headrace
