#include "kernels/cuda/gated_rows.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace headrace::cuda {
namespace {

constexpr size_t kMostStretches = 16;  // a launch each
constexpr int64_t kRowsOfVector = 8;   // 16 bytes of activations

int64_t end_of(const WeightRun& run) { return run.row_begin + run.rows; }

const std::byte* row_of(const WeightRun& run, int64_t row) {
  return run.data + static_cast<size_t>(row - run.row_begin) * run.row_stride_bytes;
}

}  // namespace

std::vector<GatedRows> gated_rows(const MatmulArgs& args, std::span<const WeightRun> runs,
                                  std::byte* out) {
  std::array<std::vector<WeightRun>, 2> of_matrix;
  for (const WeightRun& run : runs) {
    if (run.codec != CodecId::kRaw) return {};
    of_matrix.at(run.matrix).push_back(run);
  }
  for (std::vector<WeightRun>& own : of_matrix) {
    std::ranges::sort(own, {}, &WeightRun::row_begin);
  }
  std::vector<GatedRows> stretches;
  int64_t row = 0;
  for (size_t i = 0, j = 0; row < args.outputs[0].rows;) {
    HR_CHECK(i < of_matrix[0].size() && j < of_matrix[1].size());
    const WeightRun& first = of_matrix[0][i];
    const WeightRun& second = of_matrix[1][j];
    HR_CHECK(first.row_begin <= row && second.row_begin <= row);
    const int64_t end = std::min(end_of(first), end_of(second));
    if (row % kRowsOfVector != 0 || stretches.size() == kMostStretches) return {};
    stretches.push_back({.first = row_of(first, row),
                         .first_stride_bytes = first.row_stride_bytes,
                         .second = row_of(second, row),
                         .second_stride_bytes = second.row_stride_bytes,
                         .rows = end - row,
                         .out = out + static_cast<size_t>(row) * dtype_size(args.dtype)});
    row = end;
    if (end_of(first) == end) ++i;
    if (end_of(second) == end) ++j;
  }
  return stretches;
}

}  // namespace headrace::cuda
