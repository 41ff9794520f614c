#include "stream/weight_runs.h"

namespace headrace {

void append_run(const TileInfo& tile, uint32_t first_matrix, const std::byte* data,
                std::vector<WeightRun>& runs) {
  const uint32_t matrix = tile.matrix - first_matrix;
  if (!runs.empty()) {
    WeightRun& last = runs.back();
    const std::byte* const end =
        last.data + static_cast<uint64_t>(last.rows) * last.row_stride_bytes;
    if (last.matrix == matrix && last.codec == tile.codec &&
        last.row_stride_bytes == tile.row_stride_bytes && end == data &&
        last.row_begin + last.rows == tile.row_begin) {
      last.rows += tile.rows;
      return;
    }
  }
  runs.push_back({.data = data,
                  .matrix = matrix,
                  .row_begin = tile.row_begin,
                  .rows = tile.rows,
                  .row_stride_bytes = tile.row_stride_bytes,
                  .codec = tile.codec});
}

}  // namespace headrace
