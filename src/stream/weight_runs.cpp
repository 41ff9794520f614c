#include "stream/weight_runs.h"

namespace headrace {

void append_run(const Manifest& manifest, uint32_t tile, uint32_t first_matrix,
                const std::byte* data, std::vector<WeightRun>& runs) {
  const TileInfo& info = manifest.tiles[tile];
  const uint32_t matrix = info.matrix - first_matrix;
  if (!runs.empty()) {
    WeightRun& last = runs.back();
    const std::byte* const end =
        last.data + static_cast<uint64_t>(last.rows) * last.row_stride_bytes;
    if (last.matrix == matrix && last.codec == info.codec &&
        last.row_stride_bytes == info.row_stride_bytes && end == data &&
        last.row_begin + last.rows == info.row_begin) {
      last.rows += info.rows;
      return;
    }
  }
  runs.push_back({.data = data,
                  .matrix = matrix,
                  .row_begin = info.row_begin,
                  .rows = info.rows,
                  .row_stride_bytes = info.row_stride_bytes,
                  .codec = info.codec});
}

}  // namespace headrace
