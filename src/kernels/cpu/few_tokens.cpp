#include "kernels/cpu/few_tokens.h"

#include <algorithm>
#include <utility>

namespace headrace::cpu {

void FewTokens::prepare_x(std::span<const WeightRun> runs, DType dtype, const std::byte* x,
                          size_t x_stride_bytes, int64_t tokens, int64_t k,
                          FewTokensX& forms) const {
  const bool fused = coded.multiply_few != nullptr;
  const auto is_fused = [&](const WeightRun& run) { return fused && run.codec != CodecId::kRaw; };
  if (std::ranges::any_of(runs, is_fused) && !std::exchange(forms.is_reordered, true)) {
    coded.reorder_x(dtype, x, x_stride_bytes, tokens, k, forms.reordered);
  }
  if (std::ranges::all_of(runs, is_fused) || std::exchange(forms.is_packed, true)) return;
  for (int64_t t = 0; t < tokens; ++t) {
    kernels.pack_row(dtype, x + static_cast<size_t>(t) * x_stride_bytes, k,
                     forms.packed + t * decoded_elements(k));
  }
}

void FewTokens::multiply(const MatrixRows& rows, const FewTokensX& x) const {
  if (rows.decoder != nullptr && coded.multiply_few != nullptr) {
    coded.multiply_few(rows, rows.decoder->layout, x.reordered);
  } else {
    kernels.matmul_few(rows, x.packed, decoded_elements(rows.k));
  }
}

}  // namespace headrace::cpu
