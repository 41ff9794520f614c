#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/coded_kernels.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/weights.h"

namespace headrace::cpu {

/// x of a product in the forms that FewTokens has made so far. The memory is the caller's:
/// FewTokens::floats(max_k) for each.
struct FewTokensX {
  float* packed = nullptr;     // of CpuKernels::pack_row, for rows that are raw when multiplied
  float* reordered = nullptr;  // of CodedKernels::reorder_x
  bool is_packed = false;
  bool is_reordered = false;
};

/// Products of up to kFewTokens token rows with rows of weights, raw or coded, on one thread.
/// Immutable.
struct FewTokens {
  const CpuKernels& kernels;
  const CodedKernels& coded;

  static int64_t floats(int64_t max_k) { return kFewTokens * decoded_elements(max_k); }

  /// Makes the forms that the runs need and `forms` lacks. x is [tokens, k], x_stride_bytes apart.
  void prepare_x(std::span<const WeightRun> runs, DType dtype, const std::byte* x,
                 size_t x_stride_bytes, int64_t tokens, int64_t k, FewTokensX& forms) const;
  /// rows.decoder says whether they are coded.
  void multiply(const MatrixRows& rows, const FewTokensX& x) const;
};

}  // namespace headrace::cpu
