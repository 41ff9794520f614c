#include "stream/tile_check.h"

#include <cerrno>
#include <cstring>

#include <xxhash.h>

#include "codec/row_code.h"
#include "engine/engine_reader.h"

namespace headrace {

TileCheck::TileCheck(const Manifest& manifest, std::string source, VerifyMode mode)
    : manifest_(manifest),
      source_(std::move(source)),
      mode_(mode),
      verified_(manifest.tiles.size(), mode == VerifyMode::kNever ? 1 : 0) {}

std::string TileCheck::place(uint32_t tile) const {
  return fmt::format("[stream] {} of {} at byte {}", tile_name(manifest_, tile), source_,
                     manifest_.tiles[tile].offset);
}

/// Of a forged tile, whose checksum is right, rows may claim what is not there.
bool TileCheck::codes_fit(const TileInfo& tile, const std::byte* data) const {
  if (tile.codec == CodecId::kRaw) return true;
  const MatrixInfo& matrix = manifest_.matrices[tile.matrix];
  const auto layout = RowLayout::of(tile.codec, matrix.dtype, matrix.k, tile.row_stride_bytes);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t escapes =
        count_escapes(layout, data + static_cast<uint64_t>(r) * layout.stride_bytes);
    if (static_cast<uint64_t>(escapes) > layout.escape_capacity) return false;
  }
  return true;
}

std::optional<Error> TileCheck::check(uint32_t first_tile, uint32_t tile_count,
                                      const std::byte* data, int error) {
  if (error == ENODATA) {
    return Error(
        ErrorCode::kCorrupt,
        place(first_tile) + " is missing, the file became shorter: build the engine again");
  }
  if (error != 0) {
    return Error(ErrorCode::kIo,
                 fmt::format("{} cannot be read: {}", place(first_tile), std::strerror(error)));
  }
  const uint64_t begin = manifest_.tiles[first_tile].offset;
  for (uint32_t t = first_tile; t < first_tile + tile_count; ++t) {
    if (verified_[t] != 0 && mode_ != VerifyMode::kAlways) continue;
    const TileInfo& tile = manifest_.tiles[t];
    if (mode_ != VerifyMode::kNever &&
        XXH3_64bits(data + (tile.offset - begin), tile.stored_bytes) != tile.xxh3) {
      return Error(ErrorCode::kCorrupt,
                   place(t) + " does not match its checksum: build the engine again");
    }
    if (!codes_fit(tile, data + (tile.offset - begin))) {
      return Error(ErrorCode::kCorrupt,
                   place(t) + " has rows with more escapes than room: build the engine again");
    }
    verified_[t] = 1;
  }
  return std::nullopt;
}

}  // namespace headrace
