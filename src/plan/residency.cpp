#include "plan/residency.h"

#include <algorithm>
#include <numeric>

namespace headrace {
namespace {

/// Golden-ratio (Weyl) sequence in [0, 1): any stretch of it is spread evenly.
double even_spread(uint64_t index) {
  return static_cast<double>((index * 0x9E3779B97F4A7C15u) >> 11) * 0x1p-53;
}

/// The u of spread_residency(): layers of one role step through the sequence, roles begin apart.
double matrix_phase(const MatrixInfo& matrix, size_t place_in_layer) {
  const double phase = even_spread(static_cast<uint64_t>(static_cast<int64_t>(matrix.layer) + 1)) +
                       even_spread(7 * static_cast<uint64_t>(place_in_layer));
  return phase < 1.0 ? phase : phase - 1.0;
}

/// Share of its matrix at which each tile becomes due.
std::vector<double> due_shares(const Manifest& manifest) {
  std::vector<double> due(manifest.tiles.size());
  size_t place_in_layer = 0;
  for (size_t m = 0; m < manifest.matrices.size(); ++m) {
    const MatrixInfo& matrix = manifest.matrices[m];
    const bool same_layer = m > 0 && manifest.matrices[m - 1].layer == matrix.layer;
    place_in_layer = same_layer ? place_in_layer + 1 : 0;
    const double phase = matrix_phase(matrix, place_in_layer);
    for (uint32_t t = matrix.first_tile; t < matrix.first_tile + matrix.tile_count; ++t) {
      const TileInfo& tile = manifest.tiles[t];
      due[t] = (static_cast<double>(tile.row_begin) + phase * static_cast<double>(tile.rows)) /
               static_cast<double>(matrix.rows);
    }
  }
  return due;
}

}  // namespace

std::vector<bool> spread_residency(const Manifest& manifest, uint64_t budget_bytes) {
  const std::vector<double> due = due_shares(manifest);
  std::vector<uint32_t> order(manifest.tiles.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(
      order, [&](uint32_t a, uint32_t b) { return due[a] != due[b] ? due[a] < due[b] : a < b; });
  std::vector<bool> resident(manifest.tiles.size(), false);
  uint64_t left = budget_bytes;
  for (const uint32_t tile : order) {
    const uint64_t cost = manifest.tiles[tile].payload_bytes();
    if (cost > left) continue;
    resident[tile] = true;
    left -= cost;
  }
  return resident;
}

}  // namespace headrace
