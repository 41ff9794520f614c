#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {

/// The stretches of rows of which there is one run of each of a group's two matrices, whose
/// activations go to `out`, packed [tokens, rows]. Empty if gated_matmul() cannot take them: runs
/// that are coded, too many stretches, or odd ones.
std::vector<GatedRows> gated_rows(const MatmulArgs& args, std::span<const WeightRun> runs,
                                  std::byte* out);

}  // namespace headrace::cuda
