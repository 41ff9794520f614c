#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/leaf_order.h"

namespace headrace::cpu {

/// Sizes of the blocks in which matmul_many works; they change no result. A block of rows is packed
/// and multiplied with all tokens, kBlockTokens at a time. Of long rows, only one step (a few
/// leaves of the order) is taken at a time, for all tiles of the block, so that this part of the
/// tokens stays in the first-level cache while weights stream through.
struct MatmulBlocking {
  static constexpr int64_t kBlockTokens = 8;
  static constexpr int64_t kMostBlockRows = 64;
  static constexpr int64_t kMostTiles = kMostBlockRows / kTileRows * (kBlockTokens / kTileTokens);

  /// Floats of a tile's sums, for the widest vectors, and of sums that wait in all levels of the
  /// tree.
  static constexpr int64_t kTileFloats = kTileRows * kTileTokens * 16;
  static constexpr int64_t kLevelFloats = kTileFloats * kMostTiles;
  static constexpr int64_t kWaitingFloats = 6 * kLevelFloats;
  static constexpr int64_t kProductFloats = kMostBlockRows * kBlockTokens;

  explicit MatmulBlocking(int64_t k)
      : block_rows(kCacheFloats / k / kTileRows * kTileRows),
        short_rows(k <= 2048),
        whole_tiles(k <= 1024) {
    // Rows so long that few fit in the second-level cache come from the third.
    if (block_rows < 16) block_rows = kMostFloats / k / kTileRows * kTileRows;
    if (block_rows > kMostBlockRows) block_rows = kMostBlockRows;
    if (block_rows < kTileRows) block_rows = kTileRows;
  }

  /// What matmul_many needs as scratch for rows of up to max_k elements.
  static int64_t most_scratch_floats(int64_t max_k) {
    constexpr int64_t kMostLanes = 16;
    const int64_t one_tile = kTileRows * (max_k + kMostLanes);
    const int64_t block = kMostFloats + kMostBlockRows * kMostLanes;
    const int64_t largest_block = kMostBlockRows * (max_k + kMostLanes);
    const int64_t packed = one_tile > block        ? one_tile
                           : block < largest_block ? block
                                                   : largest_block;
    return packed + kWaitingFloats + kProductFloats;
  }

  int64_t block_rows;  // at most this many rows in one call; a multiple of kTileRows
  bool short_rows;     // a step takes four leaves, else one
  bool whole_tiles;    // a tile takes all steps at once

 private:
  static constexpr int64_t kCacheFloats = 128 * 1024;       // 512 KiB
  static constexpr int64_t kMostFloats = int64_t{1} << 20;  // 4 MiB
};

}  // namespace headrace::cpu
