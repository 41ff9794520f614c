#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/leaf_order.h"

namespace headrace::cpu {

/// Floats of a tile's sums, for the widest vectors; of one level of waiting sums; of all levels.
inline constexpr int64_t kMostTileFloats = kTileRows * kTileTokens * 16;
inline constexpr int64_t kMostBlockRows = 64;
inline constexpr int64_t kMostBlockTokens = 64;
inline constexpr int64_t kLevelFloats = kMostTileFloats * (kMostBlockTokens / kTileTokens);
inline constexpr int64_t kWaitingFloats = 6 * kLevelFloats;

/// Sizes of the blocks in which matmul_many works, chosen so that packed weights and a block of
/// tokens stay in the second-level cache. They change no result.
struct MatmulBlocking {
  explicit MatmulBlocking(int64_t k)
      : block_rows(limit(kWeightFloats / k, kTileRows, kMostBlockRows)),
        block_tokens(limit(kTokenFloats / k, kTileTokens, kMostBlockTokens)),
        leaves_together(k <= 1536   ? 4
                        : k <= 4096 ? 2
                                    : 1) {}

  /// What matmul_many needs as scratch for rows of up to max_k elements.
  static int64_t most_scratch_floats(int64_t max_k) {
    constexpr int64_t kMostLanes = 16;
    const int64_t one_tile = kTileRows * (max_k + kMostLanes);
    const int64_t block = kWeightFloats + kMostBlockRows * kMostLanes;
    return (one_tile > block ? one_tile : block) + kWaitingFloats;
  }

  int64_t block_rows;    // at most this many rows in one call; a multiple of kTileRows
  int64_t block_tokens;  // tokens that are multiplied with all of them in turn
  int leaves_together;   // 4: every tile is finished before the next

 private:
  static constexpr int64_t kWeightFloats = 96 * 1024;  // 384 KiB
  static constexpr int64_t kTokenFloats = 64 * 1024;   // 256 KiB

  static int64_t limit(int64_t value, int64_t multiple, int64_t most) {
    value = value / multiple * multiple;
    return value < multiple ? multiple : value > most ? most : value;
  }
};

}  // namespace headrace::cpu
