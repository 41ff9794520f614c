#include "engine/engine_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <xxhash.h>

#include "base/error.h"
#include "codec/row_code.h"
#include "engine/format.h"
#include "engine/hash.h"
#include "engine/little_endian.h"
#include "engine/manifest_check.h"
#include "engine/manifest_codec.h"

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
constexpr int64_t kRowsAtATime = 4;  // that a thread encodes

/// Rows that a chunk of the writer's memory holds, at least one.
int64_t rows_per_chunk(uint64_t stride) {
  return static_cast<int64_t>(std::max<uint64_t>(kChunkBytes / stride, 1));
}

}  // namespace

EngineWriter::EngineWriter(WritableFile& file, const ModelConfig& model, uint64_t tile_bytes,
                           std::vector<CodecId> codecs, ThreadPool& pool)
    : file_(file),
      model_(model),
      codecs_(std::move(codecs)),
      pool_(pool),
      layout_(model_, tile_bytes),
      manifest_(layout_.manifest()) {
  HR_CHECK(file_.size() == 0);
}

void EngineWriter::pad_to(uint64_t offset) {
  HR_CHECK(offset >= file_.size());
  static constexpr std::array<std::byte, kPageBytes> kZeros{};
  while (file_.size() < offset) {
    file_.append(std::span(kZeros).first(std::min(kPageBytes, offset - file_.size())));
  }
}

std::span<std::byte> EngineWriter::read_packed(const RowReader& read_rows, int64_t row_begin,
                                               int64_t rows, uint64_t row_bytes) {
  const size_t bytes = static_cast<size_t>(rows) * row_bytes;
  packed_.resize(std::max(packed_.size(), bytes));
  const std::span packed = std::span(packed_).first(bytes);
  read_rows(row_begin, rows, packed);
  return packed;
}

std::span<std::byte> EngineWriter::read_chunk(const RowReader& read_rows, int64_t row_begin,
                                              int64_t rows, uint64_t row_bytes, uint64_t stride) {
  const auto count = static_cast<size_t>(rows);
  const std::span packed = read_packed(read_rows, row_begin, rows, row_bytes);
  if (stride == row_bytes) return packed;
  strided_.assign(count * stride, std::byte{0});
  for (size_t row = 0; row < count; ++row) {
    std::memcpy(strided_.data() + row * stride, packed.data() + row * row_bytes, row_bytes);
  }
  return strided_;
}

std::span<std::byte> EngineWriter::encode_chunk(const RowLayout& layout, const RowReader& read_rows,
                                                int64_t row_begin, int64_t rows) {
  const std::span packed =
      read_packed(read_rows, row_begin, rows, row_bytes(layout.k, layout.dtype));
  strided_.resize(static_cast<size_t>(rows) * layout.stride_bytes);
  const auto columns = static_cast<size_t>(layout.k);
  const auto* const elements = reinterpret_cast<const uint16_t*>(packed.data());
  pool_.parallel_for(rows, kRowsAtATime, [&](int64_t begin, int64_t end) {
    for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
      const std::span<const uint16_t> row(elements + r * columns, columns);
      encode_row(layout, choose_book(layout.codec, layout.dtype, row), row,
                 strided_.data() + r * layout.stride_bytes);
    }
  });
  return strided_;
}

void EngineWriter::add_tile(const MatrixInfo& matrix, TileInfo& tile, const RowReader& read_rows) {
  const uint64_t stride = tile.row_stride_bytes;
  StreamingHash hash;
  pad_to(tile.offset);
  for (int64_t done = 0; done < tile.rows;) {
    const int64_t piece = std::min(rows_per_chunk(stride), tile.rows - done);
    const int64_t row = tile.row_begin + done;
    const auto bytes =
        tile.codec == CodecId::kRaw
            ? read_chunk(read_rows, row, piece, row_bytes(matrix.k, matrix.dtype), stride)
            : encode_chunk(manifest_.row_layout(tile), read_rows, row, piece);
    hash.update(bytes);
    file_.append(bytes);
    done += piece;
  }
  tile.xxh3 = hash.digest();
}

MatrixCoding EngineWriter::choose_coding(const TensorSpec& spec, const RowReader& read_rows) {
  if (codecs_.empty()) return {};
  const uint64_t bytes = row_bytes(spec.k, model_.dtype);
  CodingChoice choice(codecs_, model_.dtype, spec.rows, spec.k, layout_.tile_rows(spec.k));
  for (int64_t row = 0; row < spec.rows;) {
    const int64_t piece = std::min(rows_per_chunk(bytes), spec.rows - row);
    choice.add_rows(row, read_packed(read_rows, row, piece, bytes), pool_);
    row += piece;
  }
  bytes_with_[CodecId::kRaw] += choice.bytes_with(CodecId::kRaw);
  for (const CodecId codec : codecs_) bytes_with_[codec] += choice.bytes_with(codec);
  return choice.choose();
}

void EngineWriter::add_matrix(const TensorSpec& spec, const RowReader& read_rows) {
  const auto next = static_cast<int64_t>(manifest_.matrices.size());
  HR_CHECK(next < matrix_count(model_));
  const TensorSpec expected = matrix_spec(model_, next);
  HR_CHECK(expected.layer == spec.layer && expected.role == spec.role);
  layout_.add_matrix(spec, choose_coding(spec, read_rows));
  const MatrixInfo& matrix = manifest_.matrices.back();
  if (next + 1 == matrix_count(model_)) layout_.finish();
  for (uint32_t i = 0; i < matrix.tile_count; ++i) {
    add_tile(matrix, manifest_.tiles[matrix.first_tile + i], read_rows);
  }
}

void EngineWriter::add_embedding(const RowReader& read_rows) {
  HR_CHECK(!manifest_.embedding.tied && manifest_.file_bytes != 0);  // laid out to the end
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
