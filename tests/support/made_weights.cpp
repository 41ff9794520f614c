#include "tests/support/made_weights.h"

#include <algorithm>
#include <fstream>
#include <random>

#include <xxhash.h>

#include "base/error.h"

namespace headrace::testing {
namespace {

constexpr uint64_t kPage = 4096;

uint64_t next_page(uint64_t at) { return (at + kPage - 1) / kPage * kPage; }

void add_matrix(MadeWeights& made, const MadeShape& shape, int32_t layer, Role role, int64_t rows,
                int64_t k, std::mt19937_64& random) {
  Manifest& manifest = made.manifest;
  const auto row_bytes = static_cast<uint64_t>(k) * dtype_size(shape.dtype);
  const uint64_t stride = (row_bytes + 15) / 16 * 16;
  MatrixInfo matrix{.layer = layer,
                    .role = role,
                    .rows = rows,
                    .k = k,
                    .dtype = shape.dtype,
                    .first_tile = static_cast<uint32_t>(manifest.tiles.size())};
  for (int64_t row = 0; row < rows; row += shape.tile_rows) {
    const int64_t count = std::min(shape.tile_rows, rows - row);
    TileInfo tile{.matrix = static_cast<uint32_t>(manifest.matrices.size()),
                  .row_begin = row,
                  .rows = count,
                  .row_stride_bytes = static_cast<uint32_t>(stride),
                  .raw_bytes = static_cast<uint64_t>(count) * row_bytes,
                  .stored_bytes = static_cast<uint64_t>(count) * stride,
                  .offset = next_page(made.content.size())};
    made.content.resize(tile.offset + tile.stored_bytes);
    for (uint64_t i = 0; i < tile.stored_bytes; ++i) {
      made.content[tile.offset + i] = static_cast<std::byte>(random());
    }
    tile.xxh3 = XXH3_64bits(made.content.data() + tile.offset, tile.stored_bytes);
    manifest.tiles.push_back(tile);
    ++matrix.tile_count;
  }
  manifest.matrices.push_back(matrix);
  made.content.resize(next_page(made.content.size() + 64));
}

}  // namespace

std::span<const std::byte> MadeWeights::rows(uint32_t matrix, int64_t row_begin,
                                             int64_t rows) const {
  const MatrixInfo& info = manifest.matrices.at(matrix);
  for (uint32_t t = info.first_tile; t < info.first_tile + info.tile_count; ++t) {
    const TileInfo& tile = manifest.tiles[t];
    if (row_begin < tile.row_begin || row_begin + rows > tile.row_begin + tile.rows) continue;
    const auto skipped = static_cast<uint64_t>(row_begin - tile.row_begin) * tile.row_stride_bytes;
    return std::span(content).subspan(tile.offset + skipped,
                                      static_cast<uint64_t>(rows) * tile.row_stride_bytes);
  }
  fail(ErrorCode::kInternal, "[test] rows are not within one tile");
}

void MadeWeights::write(const std::string& path) const {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file) fail(ErrorCode::kIo, "[test] cannot write {}", path);
}

MadeWeights make_weights(const MadeShape& shape) {
  MadeWeights made;
  std::mt19937_64 random(shape.seed);
  made.content.resize(kPage);  // where an engine has its header
  made.manifest.tile_bytes = kPage;
  for (int32_t layer = 0; layer < shape.layers; ++layer) {
    add_matrix(made, shape, layer, Role::kQkv, 2 * shape.hidden, shape.hidden, random);
    add_matrix(made, shape, layer, Role::kDense, shape.hidden, shape.hidden, random);
    add_matrix(made, shape, layer, Role::kFc, shape.intermediate, shape.hidden, random);
    add_matrix(made, shape, layer, Role::kGate, shape.intermediate, shape.hidden, random);
    add_matrix(made, shape, layer, Role::kProj, shape.hidden, shape.intermediate, random);
  }
  add_matrix(made, shape, -1, Role::kLmHead, shape.vocab, shape.hidden, random);
  made.manifest.file_bytes = made.content.size();
  return made;
}

}  // namespace headrace::testing
