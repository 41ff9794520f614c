#include "kernels/cpu/few_tokens.h"

#include <algorithm>

namespace headrace::cpu {

void FewTokens::pack_x(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens,
                       int64_t k, float* packed) const {
  const int64_t row_floats = decoded_elements(k);
  for (int64_t t = 0; t < tokens; ++t) {
    float* const row = packed + t * row_floats;
    kernels.pack_row(dtype, x + static_cast<size_t>(t) * x_stride_bytes, k, row);
    std::fill(row + k, row + row_floats, -0.0f);
  }
}

bool FewTokens::reorder_x(std::span<const WeightRun> runs, DType dtype, int64_t tokens, int64_t k,
                          const float* packed, float* reordered) const {
  const auto is_coded = [](const WeightRun& run) { return run.codec != CodecId::kRaw; };
  if (coded.reorder_x == nullptr || std::ranges::none_of(runs, is_coded)) return false;
  coded.reorder_x(dtype, packed, decoded_elements(k), tokens, k, reordered);
  return true;
}

void FewTokens::multiply(const MatrixRows& rows, const float* packed,
                         const float* reordered) const {
  if (rows.decoder != nullptr && coded.multiply_few != nullptr) {
    coded.multiply_few(rows, rows.decoder->layout, reordered);
  } else {
    kernels.matmul_few(rows, packed, decoded_elements(rows.k));
  }
}

}  // namespace headrace::cpu
