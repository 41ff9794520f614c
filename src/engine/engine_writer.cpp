#include "engine/engine_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <xxhash.h>

#include "base/error.h"
#include "engine/format.h"
#include "engine/hash.h"
#include "engine/little_endian.h"
#include "engine/manifest_check.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_layout.h"

// The file, front to back (manifest_layout.cpp decides where); every section begins on a multiple
// of 4096 (docs/engine-format.md):
//
//   header, 64 bytes (format.cpp)
//   matrices in pass order: tiles side by side, then at least 64 bytes of padding
//   embedding table, unless tied: rows of payload, padding and the payload's XXH3-64
//   vectors, float32, each on a multiple of 64
//   manifest (manifest_codec.cpp), padded to a multiple of 4096
namespace headrace {
namespace {

constexpr uint64_t kChunkBytes = uint64_t{4} << 20;

/// Rows that a chunk of the writer's memory holds, at least one.
int64_t rows_per_chunk(uint64_t stride) {
  return static_cast<int64_t>(std::max<uint64_t>(kChunkBytes / stride, 1));
}

}  // namespace

EngineWriter::EngineWriter(WritableFile& file, const ModelConfig& model, uint64_t tile_bytes)
    : file_(file), model_(model), manifest_(lay_out_manifest(model, tile_bytes)) {
  HR_CHECK(file_.size() == 0);
}

void EngineWriter::pad_to(uint64_t offset) {
  HR_CHECK(offset >= file_.size());
  static constexpr std::array<std::byte, kPageBytes> kZeros{};
  while (file_.size() < offset) {
    file_.append(std::span(kZeros).first(std::min(kPageBytes, offset - file_.size())));
  }
}

std::span<std::byte> EngineWriter::read_chunk(const RowReader& read_rows, int64_t row_begin,
                                              int64_t rows, uint64_t row_bytes, uint64_t stride) {
  const auto count = static_cast<size_t>(rows);
  packed_.resize(std::max(packed_.size(), count * row_bytes));
  const std::span packed = std::span(packed_).first(count * row_bytes);
  read_rows(row_begin, rows, packed);
  if (stride == row_bytes) return packed;
  strided_.assign(count * stride, std::byte{0});
  for (size_t row = 0; row < count; ++row) {
    std::memcpy(strided_.data() + row * stride, packed.data() + row * row_bytes, row_bytes);
  }
  return strided_;
}

void EngineWriter::add_tile(const MatrixInfo& matrix, TileInfo& tile, const RowReader& read_rows) {
  const uint64_t stride = tile.row_stride_bytes;
  StreamingHash hash;
  pad_to(tile.offset);
  for (int64_t done = 0; done < tile.rows;) {
    const int64_t piece = std::min(rows_per_chunk(stride), tile.rows - done);
    const auto bytes = read_chunk(read_rows, tile.row_begin + done, piece,
                                  row_bytes(matrix.k, matrix.dtype), stride);
    hash.update(bytes);
    file_.append(bytes);
    done += piece;
  }
  tile.xxh3 = hash.digest();
}

void EngineWriter::add_matrix(const TensorSpec& spec, const RowReader& read_rows) {
  HR_CHECK(next_matrix_ < manifest_.matrices.size());
  const MatrixInfo& matrix = manifest_.matrices[next_matrix_++];
  HR_CHECK(matrix.layer == spec.layer && matrix.role == spec.role);
  for (uint32_t i = 0; i < matrix.tile_count; ++i) {
    add_tile(matrix, manifest_.tiles[matrix.first_tile + i], read_rows);
  }
}

void EngineWriter::add_embedding(const RowReader& read_rows) {
  HR_CHECK(!manifest_.embedding.tied && next_matrix_ == manifest_.matrices.size());
  const uint64_t payload = row_bytes(model_.hidden_size, model_.dtype);
  const uint64_t stride = manifest_.embedding.row_stride_bytes;
  pad_to(manifest_.embedding.offset);
  for (int64_t row = 0; row < model_.vocab_size;) {
    const int64_t piece = std::min(rows_per_chunk(stride), model_.vocab_size - row);
    const auto bytes = read_chunk(read_rows, row, piece, payload, stride);
    for (size_t begin = 0; begin < bytes.size(); begin += stride) {
      LittleEndianWriter hash;
      hash.put(uint64_t{XXH3_64bits(bytes.data() + begin, payload)});
      std::ranges::copy(hash.bytes(),
                        bytes.begin() + static_cast<ptrdiff_t>(begin + stride - sizeof(uint64_t)));
    }
    file_.append(bytes);
    row += piece;
  }
}

void EngineWriter::add_vector(const TensorSpec& spec, std::span<const float> values) {
  HR_CHECK(next_vector_ < manifest_.vectors.size());
  VectorInfo& vector = manifest_.vectors[next_vector_++];
  HR_CHECK(vector.layer == spec.layer && vector.role == spec.role &&
           vector.count == static_cast<int64_t>(values.size()));
  LittleEndianWriter bytes;
  for (const float value : values) bytes.put(std::bit_cast<uint32_t>(value));
  vector.xxh3 = XXH3_64bits(bytes.bytes().data(), bytes.bytes().size());
  pad_to(vector.offset);
  file_.append(bytes.bytes());
}

Manifest EngineWriter::finish() {
  HR_CHECK(next_vector_ == manifest_.vectors.size());
  pad_to(align_up(file_.size(), kPageBytes));
  const std::vector<std::byte> bytes = serialize_manifest(manifest_);
  FileHeader header{.manifest_offset = file_.size(),
                    .manifest_bytes = bytes.size(),
                    .manifest_xxh3 = XXH3_64bits(bytes.data(), bytes.size())};
  file_.append(bytes);
  pad_to(manifest_.file_bytes);
  header.file_bytes = manifest_.file_bytes;
  file_.write_at(0, serialize_header(header));
  check_manifest(manifest_, header, file_.path());
  validate_manifest(manifest_, model_, file_.path());
  return std::move(manifest_);
}

}  // namespace headrace
