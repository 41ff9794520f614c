#include "kernels/decode_rows.h"

#include <cstring>
#include <vector>

#include "kernels/cpu/coded_kernels.h"

namespace headrace {

void decode_rows(const WeightRun& run, DType dtype, int64_t k, std::byte* out,
                 size_t out_stride_bytes, ThreadPool& pool) {
  constexpr int64_t kRowsAtATime = 16;  // that a thread takes
  const cpu::CodedKernels& kernels = *cpu::coded_kernels_for(detect_cpu_isa()).front();
  const RowLayout layout = RowLayout::of(run.codec, dtype, k, run.row_stride_bytes);
  const size_t row_bytes = static_cast<size_t>(k) * dtype_size(dtype);
  // Whole chunks are decoded, more than a row may have.
  const size_t decoded_bytes = static_cast<size_t>(cpu::decoded_elements(k)) * dtype_size(dtype);
  pool.parallel_for(run.rows, kRowsAtATime, [&](int64_t begin, int64_t end) {
    std::vector<std::byte> decoded(decoded_bytes);
    for (int64_t r = begin; r < end; ++r) {
      const auto row = static_cast<size_t>(r);
      kernels.decode(layout, run.data + row * run.row_stride_bytes, decoded.data());
      std::memcpy(out + row * out_stride_bytes, decoded.data(), row_bytes);
    }
  });
}

}  // namespace headrace
