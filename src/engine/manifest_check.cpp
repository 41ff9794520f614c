#include "engine/manifest_check.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "codec/row_layout.h"
#include "engine/layout.h"

namespace headrace {
namespace {

template <typename... Args>
[[noreturn]] void corrupt(std::string_view where, fmt::format_string<Args...> format,
                          Args&&... args) {
  fail(ErrorCode::kCorrupt, "[engine] {}: {}: build the engine again", where,
       fmt::format(format, std::forward<Args>(args)...));
}

/// Bytes [begin, end) of the file that one thing occupies.
struct Region {
  uint64_t begin = 0;
  uint64_t end = 0;
};

bool stride_fits(const TileInfo& tile, const MatrixInfo& matrix) {
  const uint64_t stride = tile.row_stride_bytes;
  if (tile.codec != CodecId::kRaw) {
    return RowLayout::fits(tile.codec, matrix.dtype, matrix.k, stride);
  }
  return stride >= row_bytes(matrix.k, matrix.dtype) && stride % kRowAlignment == 0;
}

/// Checks everything about a tile that its matrix, its codec and the file's size decide.
void check_tile(const Manifest& manifest, uint32_t index, std::string_view where) {
  const TileInfo& tile = manifest.tiles[index];
  const MatrixInfo& matrix = manifest.matrices[tile.matrix];
  if (codec_name(tile.codec) == nullptr || tile.codec_version != codec_version_of(tile.codec)) {
    fail(ErrorCode::kUnsupported,
         "[engine] {}: tile {} has codec {} version {}, which this program does not know", where,
         index, static_cast<int>(tile.codec), tile.codec_version);
  }
  if (tile.parameters_size != 0 || tile.parameters_begin != 0) {
    corrupt(where, "tile {} has codec parameters, which its codec has not", index);
  }
  if (!codec_fits(tile.codec, matrix.dtype)) {
    corrupt(where, "tile {} has codec {}, which is not for {}", index, codec_name(tile.codec),
            dtype_name(matrix.dtype));
  }
  if (!stride_fits(tile, matrix)) {
    corrupt(where, "tile {} has a row stride of {} bytes", index, tile.row_stride_bytes);
  }
  const uint64_t rows_bytes = static_cast<uint64_t>(tile.rows) * tile.row_stride_bytes;
  if (tile.stored_bytes != rows_bytes) {
    corrupt(where, "tile {} stores {} bytes in place of {}", index, tile.stored_bytes, rows_bytes);
  }
  if (tile.offset % kPageBytes != 0 || tile.offset > manifest.file_bytes ||
      tile.stored_bytes > manifest.file_bytes - tile.offset) {
    corrupt(where, "tile {} lies at byte {} of {}", index, tile.offset, manifest.file_bytes);
  }
}

/// The tiles of a matrix that are raw have one row stride; those that are not have one codec and
/// stride.
class SameStrides {
 public:
  /// Whether the tile is like those before it.
  bool add(const TileInfo& tile) {
    const TileInfo*& first = tile.codec == CodecId::kRaw ? raw_ : coded_;
    if (first == nullptr) first = &tile;
    return first->codec == tile.codec && first->row_stride_bytes == tile.row_stride_bytes;
  }

 private:
  const TileInfo* raw_ = nullptr;
  const TileInfo* coded_ = nullptr;
};

/// Checks that a matrix's tiles cover its rows and lie side by side; returns where, tail included.
Region check_matrix(const Manifest& manifest, size_t index, std::string_view where) {
  const MatrixInfo& matrix = manifest.matrices[index];
  if (matrix.expert != -1) {
    fail(ErrorCode::kUnsupported,
         "[engine] {}: matrix {} belongs to expert {}: experts are not known", where, index,
         matrix.expert);
  }
  int64_t next_row = 0;
  SameStrides strides;
  Region region;
  for (uint32_t i = 0; i < matrix.tile_count; ++i) {
    const uint32_t t = matrix.first_tile + i;
    const TileInfo& tile = manifest.tiles[t];
    const bool last = i + 1 == matrix.tile_count;
    if (tile.row_begin != next_row || tile.rows < 1 || tile.rows > matrix.rows - next_row ||
        (!last && tile.rows % kTileRows != 0)) {
      corrupt(where, "tile {} holds {} rows from {} on", t, tile.rows, tile.row_begin);
    }
    next_row += tile.rows;
    check_tile(manifest, t, where);
    if (i == 0) region.begin = tile.offset;
    if (i > 0 && tile.offset != align_up(region.end, kPageBytes)) {
      corrupt(where, "tile {} does not follow its neighbour", t);
    }
    region.end = tile.offset + tile.stored_bytes;
    if (!strides.add(tile)) {
      corrupt(where, "tile {} has another codec or row stride than its neighbours", t);
    }
  }
  if (next_row != matrix.rows) {
    corrupt(where, "the tiles of matrix {} cover {} of {} rows", index, next_row, matrix.rows);
  }
  region.end += kReadableTail;
  return region;
}

Region check_vector(const Manifest& manifest, size_t index, std::string_view where) {
  const VectorInfo& vector = manifest.vectors[index];
  const uint64_t bytes = static_cast<uint64_t>(vector.count) * sizeof(float);
  if (vector.offset % kRowAlignment != 0 || vector.offset > manifest.file_bytes ||
      bytes > manifest.file_bytes - vector.offset) {
    corrupt(where, "vector {} lies at byte {} of {}", index, vector.offset, manifest.file_bytes);
  }
  return {vector.offset, vector.offset + bytes};
}

Region check_embedding(const Manifest& manifest, std::string_view where) {
  const EmbeddingInfo& embedding = manifest.embedding;
  if (embedding.tied) {
    if (embedding.offset != 0 || embedding.row_stride_bytes != 0) {
      corrupt(where, "the embedding is tied and has a place of its own");
    }
    return {};
  }
  const MatrixInfo& head = manifest.matrices.back();  // the same shape [vocab, hidden]
  const uint64_t needed = row_bytes(head.k, head.dtype) + sizeof(uint64_t);
  if (embedding.row_stride_bytes < needed || embedding.row_stride_bytes % kRowAlignment != 0) {
    corrupt(where, "the embedding has a row stride of {} bytes", embedding.row_stride_bytes);
  }
  const uint64_t bytes = static_cast<uint64_t>(head.rows) * embedding.row_stride_bytes;
  if (embedding.offset % kPageBytes != 0 || embedding.offset > manifest.file_bytes ||
      bytes > manifest.file_bytes - embedding.offset) {
    corrupt(where, "the embedding lies at byte {} of {}", embedding.offset, manifest.file_bytes);
  }
  return {embedding.offset, embedding.offset + bytes};
}

std::string tensor_name(int32_t layer, Role role) {
  if (layer < 0) return role_name(role);
  return fmt::format("layer {} {}", layer, role_name(role));
}

}  // namespace

void check_manifest(const Manifest& manifest, const FileHeader& header, std::string_view where) {
  if (manifest.matrices.empty() || manifest.matrices.back().role != Role::kLmHead) {
    corrupt(where, "its last matrix is not lm_head");
  }
  std::vector<Region> regions = {
      {0, kPageBytes}, {header.manifest_offset, header.manifest_offset + header.manifest_bytes}};
  regions.reserve(manifest.matrices.size() + manifest.vectors.size() + 3);
  uint64_t previous_end = 0;
  for (size_t m = 0; m < manifest.matrices.size(); ++m) {
    regions.push_back(check_matrix(manifest, m, where));
    if (regions.back().begin < previous_end)
      corrupt(where, "matrix {} lies before its neighbour", m);
    previous_end = regions.back().end;
  }
  for (size_t v = 0; v < manifest.vectors.size(); ++v) {
    regions.push_back(check_vector(manifest, v, where));
  }
  if (const Region region = check_embedding(manifest, where); region.end != 0) {
    regions.push_back(region);
  }
  std::ranges::sort(regions, {}, &Region::begin);
  for (size_t i = 1; i < regions.size(); ++i) {
    if (regions[i].begin < regions[i - 1].end) {
      corrupt(where, "two of its sections overlap at byte {}", regions[i].begin);
    }
  }
  if (regions.back().end > manifest.file_bytes) {
    corrupt(where, "fewer than {} bytes follow its last matrix", kReadableTail);
  }
}

void validate_manifest(const Manifest& manifest, const ModelConfig& config,
                       std::string_view where) {
  if (static_cast<int64_t>(manifest.matrices.size()) != matrix_count(config) ||
      static_cast<int64_t>(manifest.vectors.size()) != vector_count(config)) {
    corrupt(where, "it holds {} matrices and {} vectors where its config.json asks for {} and {}",
            manifest.matrices.size(), manifest.vectors.size(), matrix_count(config),
            vector_count(config));
  }
  if (manifest.embedding.tied != config.tie_word_embeddings) {
    corrupt(where, "it and its config.json disagree about a tied embedding");
  }
  for (size_t m = 0; m < manifest.matrices.size(); ++m) {
    const MatrixInfo& matrix = manifest.matrices[m];
    const TensorSpec spec = matrix_spec(config, static_cast<int64_t>(m));
    if (matrix.layer != spec.layer || matrix.role != spec.role || matrix.rows != spec.rows ||
        matrix.k != spec.k || matrix.dtype != config.dtype) {
      corrupt(where, "matrix {} is {} [{}, {}] {} where its config.json asks for {} [{}, {}] {}", m,
              tensor_name(matrix.layer, matrix.role), matrix.rows, matrix.k,
              dtype_name(matrix.dtype), tensor_name(spec.layer, spec.role), spec.rows, spec.k,
              dtype_name(config.dtype));
    }
  }
  for (size_t v = 0; v < manifest.vectors.size(); ++v) {
    const VectorInfo& vector = manifest.vectors[v];
    const TensorSpec spec = vector_spec(config, static_cast<int64_t>(v));
    if (vector.layer != spec.layer || vector.role != spec.role || vector.count != spec.rows) {
      corrupt(where, "vector {} is {} [{}] where its config.json asks for {} [{}]", v,
              tensor_name(vector.layer, vector.role), vector.count,
              tensor_name(spec.layer, spec.role), spec.rows);
    }
  }
}

}  // namespace headrace
