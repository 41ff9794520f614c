#pragma once

#include <cstdint>

namespace headrace::numerics {

/// Constants of the order contract in docs/numerics.md. They decide bits of every result: changing
/// one changes the answers of every engine.

/// Partial sums of a canonical dot product; partial j takes the elements j, j + 256, ...
inline constexpr int64_t kPartials = 256;

/// Attention cuts a context into splits of this many positions, counted from position 0.
inline constexpr int64_t kAttentionSplit = 256;

/// Positions that attention of the matrix class takes at a time, counted from position 0.
inline constexpr int64_t kAttentionStep = 64;

/// Lanes in which a split's probabilities are summed; lane j takes positions j, j + 16, ...
inline constexpr int64_t kSumLanes = 16;

/// exp: x = n ln2 + r, |r| <= ln2 / 2. Arguments are first limited to [kExpLowest, kExpHighest],
/// past which the result is 0 or infinity anyway.
inline constexpr float kExpLowest = -104.0f;
inline constexpr float kExpHighest = 89.0f;
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e4p-1f;
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kRoundMagic = 0x1.8p+23f;  // x + magic - magic rounds x to an integer

/// e^r = 1 + r + r^2 (c2 + c3 r + ... + c6 r^4): Remez fit of the relative error, 3.1e-9.
inline constexpr float kExpC2 = 0x1.fffffcp-2f;
inline constexpr float kExpC3 = 0x1.555492p-3f;
inline constexpr float kExpC4 = 0x1.5558f2p-5f;
inline constexpr float kExpC5 = 0x1.123a2p-7f;
inline constexpr float kExpC6 = 0x1.6a23dp-10f;

}  // namespace headrace::numerics
