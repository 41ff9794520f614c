#include "engine/manifest_layout.h"

#include <algorithm>

#include "base/error.h"
#include "engine/format.h"
#include "engine/manifest_codec.h"

namespace headrace {
namespace {

constexpr uint64_t kVectorAlignment = 64;

}  // namespace

/// Counts before anything grows.
ManifestLayout::ManifestLayout(const ModelConfig& model, uint64_t tile_bytes)
    : model_(model), end_(kPageBytes) {  // behind the header's page
  manifest_.tile_bytes = tile_bytes;
  manifest_.embedding.tied = model.tie_word_embeddings;
  uint64_t tiles = 0;
  for (int64_t i = 0; i < matrix_count(model_); ++i) {
    const TensorSpec spec = matrix_spec(model_, i);
    const int64_t rows = tile_rows(spec.k);
    tiles += static_cast<uint64_t>((spec.rows + rows - 1) / rows);
  }
  const auto vectors = static_cast<uint64_t>(vector_count(model_));
  manifest_bytes_ = manifest_bytes(static_cast<uint64_t>(matrix_count(model_)), tiles, vectors,
                                   /*parameter_bytes=*/0);
  if (manifest_bytes_ > kMaxManifestBytes) {
    fail(ErrorCode::kInvalidArgument,
         "[build] {} tiles need a manifest of {} bytes, the limit is {}: use a larger "
         "--tile_bytes",
         tiles, manifest_bytes_, kMaxManifestBytes);
  }
  manifest_.tiles.reserve(tiles);
}

int64_t ManifestLayout::tile_rows(int64_t k) const {
  return rows_per_tile(k, model_.dtype, manifest_.tile_bytes);
}

void ManifestLayout::add_matrix(const TensorSpec& spec, const MatrixCoding& coding) {
  MatrixInfo matrix{.layer = spec.layer,
                    .role = spec.role,
                    .rows = spec.rows,
                    .k = spec.k,
                    .dtype = model_.dtype,
                    .first_tile = static_cast<uint32_t>(manifest_.tiles.size())};
  const int64_t rows = tile_rows(spec.k);
  for (int64_t row = 0; row < spec.rows; row += rows) {
    add_tile(spec, row, std::min(rows, spec.rows - row), coding);
  }
  matrix.tile_count = static_cast<uint32_t>(manifest_.tiles.size()) - matrix.first_tile;
  manifest_.matrices.push_back(matrix);
  end_ = align_up(end_ + kReadableTail, kPageBytes);
}

void ManifestLayout::add_tile(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                              const MatrixCoding& coding) {
  const CodecId codec = coding.of_tile(static_cast<size_t>(row_begin / tile_rows(spec.k)));
  const uint64_t stride =
      codec == CodecId::kRaw ? row_stride_bytes(spec.k, model_.dtype) : coding.row_stride_bytes;
  const TileInfo tile{.matrix = static_cast<uint32_t>(manifest_.matrices.size()),
                      .row_begin = row_begin,
                      .rows = rows,
                      .codec = codec,
                      .codec_version = codec_version_of(codec),
                      .row_stride_bytes = static_cast<uint32_t>(stride),
                      .raw_bytes = static_cast<uint64_t>(rows) * row_bytes(spec.k, model_.dtype),
                      .stored_bytes = static_cast<uint64_t>(rows) * stride,
                      .offset = align_up(end_, kPageBytes)};
  end_ = tile.offset + tile.stored_bytes;
  manifest_.tiles.push_back(tile);
}

void ManifestLayout::add_embedding() {
  const uint64_t stride = embedding_stride_bytes(model_.hidden_size, model_.dtype);
  manifest_.embedding.offset = end_;
  manifest_.embedding.row_stride_bytes = static_cast<uint32_t>(stride);
  end_ = align_up(end_ + static_cast<uint64_t>(model_.vocab_size) * stride, kPageBytes);
}

void ManifestLayout::add_vector(const TensorSpec& spec) {
  const VectorInfo vector{.layer = spec.layer,
                          .role = spec.role,
                          .count = spec.rows,
                          .offset = align_up(end_, kVectorAlignment)};
  end_ = vector.offset + static_cast<uint64_t>(vector.count) * sizeof(float);
  manifest_.vectors.push_back(vector);
}

void ManifestLayout::finish() {
  HR_CHECK(static_cast<int64_t>(manifest_.matrices.size()) == matrix_count(model_));
  if (!manifest_.embedding.tied) add_embedding();
  for (int64_t i = 0; i < vector_count(model_); ++i) add_vector(vector_spec(model_, i));
  manifest_.file_bytes = align_up(align_up(end_, kPageBytes) + manifest_bytes_, kPageBytes);
}

Manifest lay_out_manifest(const ModelConfig& model, uint64_t tile_bytes,
                          const std::function<MatrixCoding(const TensorSpec&)>& coding) {
  ManifestLayout layout(model, tile_bytes);
  for (int64_t i = 0; i < matrix_count(model); ++i) {
    const TensorSpec spec = matrix_spec(model, i);
    layout.add_matrix(spec, coding(spec));
  }
  layout.finish();
  return std::move(layout.manifest());
}

Manifest lay_out_manifest(const ModelConfig& model, uint64_t tile_bytes) {
  return lay_out_manifest(model, tile_bytes, [](const TensorSpec&) { return MatrixCoding{}; });
}

}  // namespace headrace
