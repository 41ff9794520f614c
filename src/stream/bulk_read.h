#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/context.h"
#include "stream/link.h"
#include "stream/tile_check.h"

namespace headrace {

/// Neighbouring tiles of the engine file, read at once.
struct BulkPiece {
  uint32_t first_tile = 0;
  uint32_t tile_count = 0;
  uint64_t offset = 0;      // in the engine file, a multiple of 4096
  uint64_t size_bytes = 0;  // a multiple of 4096
};

/// What happens to pieces, by index. Both are called by the thread that calls bulk_read().
struct BulkTarget {
  /// Host memory that a piece is to be read into; may wait for some to be free. At most
  /// link.depth() pieces are between place and arrived.
  std::function<std::byte*(size_t piece)> place;
  /// The piece's bytes are there, and good.
  std::function<void(size_t piece, std::byte* memory)> arrived;
};

/// Reads all pieces, as many requests deep as the link goes, and checks them on the context's pool,
/// showing progress under `title`. Returns the bytes read. Throws what failed, when nothing is in
/// flight any more.
uint64_t bulk_read(std::span<const BulkPiece> pieces, Link& link, TileCheck& check,
                   const BulkTarget& target, const char* title, Context& context);

}  // namespace headrace
