#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/coded_kernels.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/weights.h"

namespace headrace::cpu {

/// Products of up to kFewTokens token rows with rows of weights, raw or coded, on one thread. x is
/// packed once, and reordered beside where coded rows are met in an order of their own. Memory is
/// the caller's: floats(max_k) for each of both. Immutable.
struct FewTokens {
  const CpuKernels& kernels;
  const CodedKernels& coded;

  static int64_t floats(int64_t max_k) { return kFewTokens * decoded_elements(max_k); }

  /// x is [tokens, k], x_stride_bytes apart.
  void pack_x(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens, int64_t k,
              float* packed) const;
  /// What multiply() wants of coded runs beside; false, with nothing done, if none of these does.
  bool reorder_x(std::span<const WeightRun> runs, DType dtype, int64_t tokens, int64_t k,
                 const float* packed, float* reordered) const;
  /// rows.decoder says whether they are coded.
  void multiply(const MatrixRows& rows, const float* packed, const float* reordered) const;
};

}  // namespace headrace::cpu
