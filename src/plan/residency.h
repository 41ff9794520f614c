#pragma once

#include <cstdint>
#include <vector>

#include "engine/manifest.h"

namespace headrace {

/// Which tiles fit a budget by the spread rule (plan.h): by tile, true for resident. A tile costs
/// its payload bytes.
///
/// Tile i of a matrix of n equal tiles becomes due at the share (i + u) / n, where u in [0, 1)
/// differs from matrix to matrix and is spread evenly over layers and roles: at a share p about p
/// of every matrix is due, and about p of the layers for matrices of a single tile. Tiles are taken
/// in the order in which they become due, and those that no longer fit are passed over.
std::vector<bool> spread_residency(const Manifest& manifest, uint64_t budget_bytes);

}  // namespace headrace
