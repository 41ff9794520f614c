#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace headrace {

/// Orders token ids: the larger logit first, and of equal ones the smaller id.
class Likelier {
 public:
  explicit Likelier(std::span<const float> logits) : logits_(logits) {}
  bool operator()(int32_t a, int32_t b) const {
    const float logit_a = logits_[static_cast<size_t>(a)];
    const float logit_b = logits_[static_cast<size_t>(b)];
    return logit_a != logit_b ? logit_a > logit_b : a < b;
  }

 private:
  std::span<const float> logits_;
};

/// Writes to `ids` the `count` most likely tokens, or all if there are not so many, in Likelier's
/// order. No logit may be NaN. One look at each logit and O(count log count) for those that rank:
/// made for counts that are small beside the vocabulary.
void find_likeliest(std::span<const float> logits, size_t count, std::vector<int32_t>& ids);

}  // namespace headrace
