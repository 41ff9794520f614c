#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/row_layout.h"
#include "kernels/backend.h"
#include "kernels/cpu/unroll.h"
#include "tensor/dtype.h"

namespace headrace::cpu {

struct MatrixRows;

/// What an instruction set has for coded rows (codec/row_code.h). Whatever a row's bytes are, only
/// bytes of the row are read. Thread-safe: only the arguments are touched.
struct CodedKernels {
  /// Restores a row's elements, those of padding up to a whole chunk too: decoded_elements().
  void (*decode)(const RowLayout& layout, const std::byte* row, std::byte* out);

  /// Brings rows of x, [tokens, k] in `dtype` and x_stride_bytes apart, into floats in the order in
  /// which multiply_few meets their columns: decoded_elements(k) for each row, -0 after the k-th.
  void (*reorder_x)(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens,
                    int64_t k, float* reordered);
  /// Products of coded rows and up to kFewTokens token rows, never storing what is decoded. x: from
  /// reorder_x. Null, and so reorder_x, where decoding first is all there is.
  void (*multiply_few)(const MatrixRows& rows, const RowLayout& layout, const float* x);
};

inline int64_t decoded_elements(int64_t k) {
  return (k + RowLayout::kChunk - 1) / RowLayout::kChunk * RowLayout::kChunk;
}

/// Decodes the rows of one run for the matrix kernels of raw rows.
struct RowDecoder {
  static constexpr int64_t kRows = 8;  // decoded at a time

  /// Decodes into `decoded`, which has room for scratch_floats(k). Not to be used for a raw run.
  static RowDecoder of(const CodedKernels& kernels, const WeightRun& run, DType dtype, int64_t k,
                       std::byte* decoded) {
    RowDecoder decoder = {.kernels = kernels, .layout = {}, .decoded = decoded};
    if (run.codec != CodecId::kRaw) {
      decoder.layout = RowLayout::of(run.codec, dtype, k, run.row_stride_bytes);
    }
    return decoder;
  }

  /// Floats that kRows rows of up to max_k elements take.
  static int64_t scratch_floats(int64_t max_k) { return kRows * decoded_elements(max_k) / 2; }

  size_t decoded_stride_bytes() const {
    return static_cast<size_t>(decoded_elements(layout.k)) * dtype_size(layout.dtype);
  }
  /// Decodes `count` rows, 1 <= count <= kRows, and returns them, decoded_stride_bytes() apart.
  HR_INLINE const std::byte* decode(const std::byte* rows, int64_t count) const {
    for (int64_t r = 0; r < count; ++r) {
      const auto row = static_cast<size_t>(r);
      kernels.decode(layout, rows + row * layout.stride_bytes,
                     decoded + row * decoded_stride_bytes());
    }
    return decoded;
  }

  const CodedKernels& kernels;
  RowLayout layout;
  std::byte* decoded;
};

/// Null where this build has no such kernels.
const CodedKernels* vbmi_coded_kernels();  // AVX-512 with VBMI and VBMI2
const CodedKernels* avx2_coded_kernels();
const CodedKernels* portable_coded_kernels();

/// Those that this processor can run beside the kernels of `isa`, best first; never none.
std::vector<const CodedKernels*> coded_kernels_for(CpuIsa isa);

}  // namespace headrace::cpu
