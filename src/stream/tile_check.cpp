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
      verified_(manifest.tiles.size()) {}

std::string TileCheck::place(uint32_t tile) const {
  return fmt::format("[stream] {} of {} at byte {}", tile_name(manifest_, tile), source_,
                     manifest_.tiles[tile].offset);
}

const char* TileCheck::fault_of(const TileInfo& tile, std::span<const std::byte> bytes) const {
  if (XXH3_64bits(bytes.data(), bytes.size()) != tile.xxh3) return "does not match its checksum";
  if (tile.codec != CodecId::kRaw && !escapes_fit(manifest_.row_layout(tile), bytes)) {
    return "has rows with more escapes than room";  // forged, checksum and all
  }
  return nullptr;
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
  if (mode_ == VerifyMode::kNever) return std::nullopt;
  const uint64_t begin = manifest_.tiles[first_tile].offset;
  for (uint32_t t = first_tile; t < first_tile + tile_count; ++t) {
    if (verified_[t] != 0 && mode_ != VerifyMode::kAlways) continue;
    const TileInfo& tile = manifest_.tiles[t];
    const char* const fault = fault_of(tile, {data + (tile.offset - begin), tile.stored_bytes});
    if (fault != nullptr) {
      return Error(ErrorCode::kCorrupt,
                   fmt::format("{} {}: build the engine again", place(t), fault));
    }
    verified_[t] = 1;
  }
  return std::nullopt;
}

}  // namespace headrace
