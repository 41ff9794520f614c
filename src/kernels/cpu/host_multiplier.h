#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "device/buffer.h"
#include "kernels/cpu/few_tokens.h"
#include "kernels/cpu/host_job.h"

namespace headrace {

/// What a thread multiplies pieces of products with: its own x and results. Confined to one thread.
class HostMultiplier {
 public:
  /// For k up to max_k. Error{kOutOfMemory}.
  HostMultiplier(const cpu::FewTokens& few, int64_t max_k);

  /// Makes x of product `number` ready. Calls wait() while words of it are missing; false: it is
  /// too late for them, and for what is multiplied with this x.
  template <typename Wait>
  void prepare_x(const HostProduct& product, uint32_t number, Wait wait) {
    constexpr size_t kAtOnce = 64;
    const size_t words = static_cast<size_t>(product.tokens) * words_of_x(product.k, product.dtype);
    for (size_t i = 0; i < words; i += kAtOnce) {
      while (!take_words(product, number, i, std::min(kAtOnce, words - i))) {
        if (!wait()) return;
      }
    }
    order_x(product);
  }

  /// REQUIRES: x is ready.
  void multiply(const HostJob& job, HostPieces batch) const;
  /// What was multiplied last, of product `number`: those pieces of the batch whose bits are set.
  void hand_over(const HostJob& job, HostPieces batch, uint32_t mine, uint32_t number) const;

 private:
  bool take_words(const HostProduct& product, uint32_t number, size_t first, size_t count);
  void order_x(const HostProduct& product);
  void multiply_rows(const WeightRun& run, cpu::MatrixRows matrix) const;

  const cpu::FewTokens few_;
  const Buffer x_;  // rows of words_of_x()
  const Buffer packed_x_;
  const Buffer reordered_x_;
  const Buffer decoded_;        // rows of weights
  const Buffer products_;       // of a batch, [tokens][HostJob::kMostBatchRows]
  cpu::FewTokensX forms_ = {};  // of x, in packed_x_ and reordered_x_
};

}  // namespace headrace
