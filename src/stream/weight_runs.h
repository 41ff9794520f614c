#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/manifest.h"
#include "kernels/weights.h"

namespace headrace {

/// Appends the rows of `tile`, which lies at `data`, to `runs`; to the last run if they follow it
/// in the matrix and in memory. `first_matrix` is the group's.
void append_run(const TileInfo& tile, uint32_t first_matrix, const std::byte* data,
                std::vector<WeightRun>& runs);

}  // namespace headrace
