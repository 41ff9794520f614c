#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/manifest.h"
#include "plan/plan.h"
#include "stream/stream_options.h"

namespace headrace {

/// Decides whether tiles that arrived may be used, and words what is wrong with them. Several
/// threads may check at once, as long as no tile is checked by two.
class TileCheck {
 public:
  /// `source` names what the tiles came from.
  TileCheck(const Manifest& manifest, std::string source, VerifyMode mode);

  /// The failure of a transfer of tiles [first_tile, first_tile + tile_count) that ended with
  /// `error` (an errno value or 0) and begins at `data`; nothing if the tiles are good. A tile lies
  /// at the same distance from `data` as in the file from the first tile. VerifyMode::kNever
  /// accepts whatever arrived.
  std::optional<Error> check(uint32_t first_tile, uint32_t tile_count, const std::byte* data,
                             int error);

 private:
  std::string place(uint32_t tile) const;
  /// What is wrong with a tile that arrived whole, as the end of a sentence; null: nothing.
  const char* fault_of(const TileInfo& tile, std::span<const std::byte> bytes) const;

  const Manifest& manifest_;
  const std::string source_;
  const VerifyMode mode_;
  std::vector<uint8_t> verified_;  // by tile; bytes, as threads write neighbours
};

}  // namespace headrace
