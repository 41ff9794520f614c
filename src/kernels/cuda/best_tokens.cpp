#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/mapped_memory.h"

namespace headrace::cuda {

void CudaBackend::reserve_best(size_t size_bytes) {
  if (best_.size_bytes() >= size_bytes) return;
  best_ = {};
  best_ = allocate_pinned(size_bytes, "likeliest tokens");
}

bool CudaBackend::best_tokens(const float* logits, int64_t vocab, const BestTokens& best) {
  const size_t rows = best.log_sums.size();
  const auto count = static_cast<size_t>(best.count);
  HR_CHECK(1 <= best.count && best.count <= std::min(vocab, kMostBestTokens));
  HR_CHECK(best.ids.size() == rows * count && best.logits.size() == rows * count);
  // Keys of every row, unless its largest logit is enough; then the rows' sums.
  const size_t keys = count == 1 ? 0 : rows * count;
  const size_t bytes = keys * sizeof(uint64_t) + rows * sizeof(TopLogit);
  reserve_best(bytes);
  const std::span own_keys(reinterpret_cast<uint64_t*>(best_.data()), keys);
  auto* const sums = reinterpret_cast<TopLogit*>(best_.data() + keys * sizeof(uint64_t));
  const auto row_count = static_cast<int64_t>(rows);
  top_logits(logits, row_count, vocab, sums, ops());
  if (keys > 0) best_logits(logits, row_count, vocab, best.count, own_keys.data(), ops());
  synchronize();
  for (size_t row = 0; row < rows; ++row) {
    best.log_sums[row] = std::log(sums[row].sum_exp);
    if (keys == 0) {
      best.ids[row] = sums[row].id;
      best.logits[row] = sums[row].logit;
      continue;
    }
    const auto own = own_keys.subspan(row * count, count);
    std::ranges::sort(own, std::greater());
    for (size_t i = 0; i < count; ++i) {
      const KeyedLogit token = logit_of_key(own[i]);
      best.ids[row * count + i] = token.id;
      best.logits[row * count + i] = token.logit;
    }
  }
  return true;
}

}  // namespace headrace::cuda
