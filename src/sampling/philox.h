#pragma once

#include <array>
#include <cstdint>

namespace headrace {

/// Philox4x32-10: 128 random bits as a pure function of a counter and a key, so that a draw depends
/// on nothing but its place (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

/// A number in [0, 1) with 53 random bits, fixed by (seed, position) alone.
double uniform_at(uint64_t seed, uint64_t position);

}  // namespace headrace
