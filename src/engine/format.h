#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace headrace {

/// Constants and the header of an engine's weight file. docs/engine-format.md describes every byte.

/// Sections, tiles and the file's end stand on multiples of this: O_DIRECT needs it.
inline constexpr uint64_t kPageBytes = 4096;
/// Bytes that can be read behind a matrix's last row, so that vector loads may run over its end.
inline constexpr uint64_t kReadableTail = 64;
/// Rows start on multiples of this inside a tile.
inline constexpr uint64_t kRowAlignment = 16;
/// Tiles hold a multiple of this many rows, a matrix's last tile excepted.
inline constexpr int64_t kTileRows = 64;
/// Largest row length and largest number of rows that a file may state.
inline constexpr int64_t kMaxColumns = int64_t{1} << 24;
inline constexpr int64_t kMaxRows = int64_t{1} << 31;
/// Largest manifest: 20 million tiles.
inline constexpr uint64_t kMaxManifestBytes = uint64_t{1} << 30;

inline constexpr std::string_view kMagic = "HRENGINE";
/// How bytes are laid out; a reader knows exactly one.
inline constexpr uint32_t kContainerVersion = 1;
/// What the bytes mean: the roles' mathematics, the order of fused rows, the numbers of dtypes.
inline constexpr uint32_t kMeaningVersion = 1;

/// Smallest multiple of `alignment` (a power of two) that is not below `value`. REQUIRES: no
/// overflow.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

/// Payload of a row of k elements, and the distance between rows in a tile.
constexpr uint64_t row_bytes(int64_t k, DType dtype) {
  return static_cast<uint64_t>(k) * dtype_size(dtype);
}
constexpr uint64_t row_stride_bytes(int64_t k, DType dtype) {
  return align_up(row_bytes(k, dtype), kRowAlignment);
}

/// Distance between rows of the untied embedding table: the payload, its checksum, padding.
constexpr uint64_t embedding_stride_bytes(int64_t k, DType dtype) {
  return align_up(row_bytes(k, dtype) + sizeof(uint64_t), kRowAlignment);
}

/// Rows of every tile of a matrix but its last. As many as `tile_bytes` hold, in multiples of 64,
/// or of the least multiple of 64 that fills whole pages when that fits too (so that tiles follow
/// each other without gaps); 64 when not even those fit.
int64_t rows_per_tile(int64_t k, DType dtype, uint64_t tile_bytes);

/// The first bytes of the weight file.
struct FileHeader {
  static constexpr size_t kBytes = 64;

  uint64_t manifest_offset = 0;  // a multiple of 4096
  uint64_t manifest_bytes = 0;
  uint64_t manifest_xxh3 = 0;
  uint64_t file_bytes = 0;  // a multiple of 4096
};

std::array<std::byte, FileHeader::kBytes> serialize_header(const FileHeader& header);

/// Reads and checks a header. Error{kCorrupt} or {kUnsupported} naming `where` for bytes that are
/// no header, for an unknown version, for a file that does not have the stated size or a manifest
/// that does not lie inside it.
FileHeader parse_header(std::span<const std::byte, FileHeader::kBytes> bytes, uint64_t file_bytes,
                        std::string_view where);

}  // namespace headrace
