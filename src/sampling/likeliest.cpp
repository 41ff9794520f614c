#include "sampling/likeliest.h"

#include <algorithm>
#include <numeric>

namespace headrace {

void find_likeliest(std::span<const float> logits, size_t count, std::vector<int32_t>& ids) {
  const Likelier likelier(logits);
  ids.resize(std::min(count, logits.size()));
  if (ids.empty()) return;
  std::iota(ids.begin(), ids.end(), 0);
  // A heap whose top is the least likely of those kept. Ids come in increasing order, so that a
  // token whose logit equals the least one's never enters.
  std::ranges::make_heap(ids, likelier);
  float least = logits[static_cast<size_t>(ids.front())];
  for (size_t i = ids.size(); i < logits.size(); ++i) {
    if (!(logits[i] > least)) continue;
    std::ranges::pop_heap(ids, likelier);
    ids.back() = static_cast<int32_t>(i);
    std::ranges::push_heap(ids, likelier);
    least = logits[static_cast<size_t>(ids.front())];
  }
  std::ranges::sort_heap(ids, likelier);
}

}  // namespace headrace
