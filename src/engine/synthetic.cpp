#include "engine/synthetic.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include <xxhash.h>

#include "base/error.h"
#include "engine/format.h"
#include "engine/hash.h"
#include "engine/synthetic_code.h"

namespace headrace {
namespace {

static_assert(std::endian::native == std::endian::little, "words are stored as they are");

/// Which of a word's random bits stay, and which are set: a sign, the last bit of the exponent and
/// the mantissa are random, so that there is nothing to convert. A word holds one value of 32 bits
/// or two of 16.
struct Pattern {
  uint32_t keep = 0;
  uint32_t set = 0;
};

// Exponents of 2^-7 and 2^-6, both signs.
constexpr Pattern kSmallFloat32 = {0x80ffffff, 0x3c000000};
constexpr Pattern kSmallFloat16 = {0x87ff87ff, 0x20002000};
constexpr Pattern kSmallBFloat16 = {0x80ff80ff, 0x3c003c00};
constexpr Pattern kNearOneFloat32 = {0x0007ffff, 0x3f800000};

Pattern small_values(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return kSmallFloat32;
    case DType::kFloat16:
      return kSmallFloat16;
    case DType::kBFloat16:
      return kSmallBFloat16;
  }
  fail(ErrorCode::kInternal, "[engine] an unknown dtype");
}

/// Words [first, first + count) of a page: a counter through lowbias32 (Wellons, Prospecting for
/// Hash Functions, 2018), with the page's key on both sides of the first product. Independent words
/// of 32 bits, so that compilers vectorise it for every processor.
void make_words(uint64_t key, Pattern pattern, uint32_t first, uint32_t count, uint32_t* out) {
  const auto low = static_cast<uint32_t>(key);
  const auto high = static_cast<uint32_t>(key >> 32);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t word = low + (first + i) * 0x9e3779b9u;
    word = (word ^ (word >> 16)) * 0x7feb352du;
    word ^= high;
    word = (word ^ (word >> 15)) * 0x846ca68bu;
    out[i] = ((word ^ (word >> 16)) & pattern.keep) | pattern.set;
  }
}

/// Bytes [offset, offset + out.size()) of the endless sequence of a seed and a pattern.
void fill(uint64_t seed, Pattern pattern, uint64_t offset, std::span<std::byte> out) {
  constexpr uint64_t kWordBytes = sizeof(uint32_t);
  std::array<uint32_t, kPageBytes / kWordBytes> words;
  while (!out.empty()) {
    const uint64_t begin = offset % kPageBytes;
    const size_t count = std::min<uint64_t>(out.size(), kPageBytes - begin);
    const uint64_t first = begin / kWordBytes;
    const uint64_t last = (begin + count - 1) / kWordBytes;
    const uint64_t key = mix(mix(seed + 0x9e3779b97f4a7c15u) + offset / kPageBytes);
    make_words(key, pattern, static_cast<uint32_t>(first), static_cast<uint32_t>(last - first + 1),
               words.data());
    std::memcpy(out.data(), std::as_bytes(std::span(words)).data() + begin % kWordBytes, count);
    out = out.subspan(count);
    offset += count;
  }
}

/// Clears the padding of rows in `out`, which begins `begin` bytes behind the first of them.
void clear_padding(uint64_t begin, uint64_t payload, uint64_t stride, std::span<std::byte> out) {
  const uint64_t end = begin + out.size();
  for (uint64_t row = begin / stride * stride; row < end; row += stride) {
    const uint64_t from = std::max(row + payload, begin);
    const uint64_t to = std::min(row + stride, end);
    if (from < to) std::ranges::fill(out.subspan(from - begin, to - from), std::byte{0});
  }
}

}  // namespace

SyntheticFile::SyntheticFile(const SyntheticSpec& spec, Manifest manifest)
    : path_("synthetic:" + spec.name),
      seed_(spec.seed),
      manifest_(std::make_shared<const Manifest>(std::move(manifest))) {}

void SyntheticFile::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size() || out.size() > size() - offset) {
    fail(ErrorCode::kCorrupt, "[file] {} ends at byte {}, bytes {} to {} were asked for", path_,
         size(), offset, offset + out.size());
  }
  while (!out.empty()) {
    const size_t count = read_piece(offset, out);
    out = out.subspan(count);
    offset += count;
  }
}

/// Fills the beginning of `out`, as far as one thing in the file goes; returns how far.
size_t SyntheticFile::read_piece(uint64_t offset, std::span<std::byte> out) const {
  const auto& tiles = manifest_->tiles;
  const auto tile = std::ranges::upper_bound(tiles, offset, {}, &TileInfo::offset);
  if (tile != tiles.begin() && offset - (tile - 1)->offset < (tile - 1)->stored_bytes) {
    return read_tile(*(tile - 1), offset, out);
  }
  const EmbeddingInfo& embedding = manifest_->embedding;
  const auto vocab = static_cast<uint64_t>(manifest_->matrices.back().rows);
  if (!embedding.tied && offset >= embedding.offset &&
      offset - embedding.offset < vocab * embedding.row_stride_bytes) {
    return read_embedding(offset, out);
  }
  const auto& vectors = manifest_->vectors;
  const auto vector = std::ranges::upper_bound(vectors, offset, {}, &VectorInfo::offset);
  if (vector != vectors.begin() &&
      offset - (vector - 1)->offset < static_cast<uint64_t>((vector - 1)->count) * sizeof(float)) {
    return read_vector(*(vector - 1), offset, out);
  }
  // Nothing. Whatever comes next begins at a multiple of 64.
  constexpr uint64_t kStep = 64;
  const size_t count = std::min<uint64_t>(out.size(), kStep - offset % kStep);
  std::ranges::fill(out.first(count), std::byte{0});
  return count;
}

size_t SyntheticFile::read_tile(const TileInfo& tile, uint64_t offset,
                                std::span<std::byte> out) const {
  const MatrixInfo& matrix = manifest_->matrices[tile.matrix];
  const uint64_t begin = offset - tile.offset;
  out = out.first(std::min<uint64_t>(out.size(), tile.stored_bytes - begin));
  if (tile.codec != CodecId::kRaw) {
    read_coded_rows(tile, begin, out);
    return out.size();
  }
  fill(seed_, small_values(matrix.dtype), offset, out);
  const uint64_t payload = row_bytes(matrix.k, matrix.dtype);
  if (payload != tile.row_stride_bytes) clear_padding(begin, payload, tile.row_stride_bytes, out);
  return out.size();
}

/// The bytes of coded rows from `begin` on, as many as `out` takes.
void SyntheticFile::read_coded_rows(const TileInfo& tile, uint64_t begin,
                                    std::span<std::byte> out) const {
  const RowLayout layout = manifest_->row_layout(tile);
  std::vector<std::byte> row(layout.stride_bytes);
  while (!out.empty()) {
    const uint64_t index = begin / layout.stride_bytes;
    const uint64_t in_row = begin % layout.stride_bytes;
    make_coded_row(layout, mix(seed_ + tile.offset) + index, row);
    const size_t count = std::min<uint64_t>(out.size(), layout.stride_bytes - in_row);
    std::memcpy(out.data(), row.data() + in_row, count);
    out = out.subspan(count);
    begin += count;
  }
}

size_t SyntheticFile::read_embedding(uint64_t offset, std::span<std::byte> out) const {
  const EmbeddingInfo& embedding = manifest_->embedding;
  const uint64_t stride = embedding.row_stride_bytes;
  const uint64_t begin = (offset - embedding.offset) % stride;
  if (begin == 0 && out.size() >= stride) {
    make_embedding_row(offset, out.first(stride));
    return stride;
  }
  std::vector<std::byte> row(stride);  // a part of one, which nothing in a pass asks for
  make_embedding_row(offset - begin, row);
  const size_t count = std::min<uint64_t>(out.size(), stride - begin);
  std::memcpy(out.data(), row.data() + begin, count);
  return count;
}

void SyntheticFile::make_embedding_row(uint64_t offset, std::span<std::byte> out) const {
  const MatrixInfo& head = manifest_->matrices.back();  // the same shape [vocab, hidden]
  const auto payload = out.first(row_bytes(head.k, head.dtype));
  fill(seed_, small_values(head.dtype), offset, payload);
  std::ranges::fill(out.subspan(payload.size()), std::byte{0});
  uint64_t checksum = XXH3_64bits(payload.data(), payload.size());
  for (std::byte& byte : out.last(sizeof(checksum))) {
    byte = static_cast<std::byte>(checksum & 0xff);
    checksum >>= 8;
  }
}

size_t SyntheticFile::read_vector(const VectorInfo& vector, uint64_t offset,
                                  std::span<std::byte> out) const {
  const bool norm = vector.role == Role::kInputNorm || vector.role == Role::kPostNorm ||
                    vector.role == Role::kFinalNorm;
  const uint64_t end = vector.offset + static_cast<uint64_t>(vector.count) * sizeof(float);
  out = out.first(std::min<uint64_t>(out.size(), end - offset));
  fill(seed_, norm ? kNearOneFloat32 : kSmallFloat32, offset, out);
  return out.size();
}

}  // namespace headrace
