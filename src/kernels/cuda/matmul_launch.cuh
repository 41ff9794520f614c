#pragma once

#include <algorithm>

#include "kernels/cuda/launchers.h"

/// What products of both row classes do before their launch.
namespace headrace::cuda {

/// What every Launch takes of a matmul: runs, x and k.
template <typename Launch>
Launch launch_of(const MatmulRuns& matmul) {
  Launch launch = {};
  std::copy(matmul.runs, matmul.runs + matmul.run_count, launch.runs);
  launch.run_count = matmul.run_count;
  launch.x = matmul.x;
  launch.x_stride_bytes = static_cast<int64_t>(matmul.x_stride_bytes);
  launch.tokens = static_cast<int32_t>(matmul.tokens);
  launch.k = static_cast<int32_t>(matmul.k);
  return launch;
}

/// Goes on by so many token rows.
template <typename Launch>
void advance_tokens(Launch& launch, int64_t tokens) {
  launch.x += tokens * launch.x_stride_bytes;
  for (int i = 0; i < launch.run_count; ++i) {
    launch.runs[i].out += tokens * launch.runs[i].out_stride;
  }
}

/// Sets first_group: run i takes the groups of `rows` rows [first_group[i], first_group[i + 1]).
/// Returns how many groups there are.
template <typename Launch>
int number_groups(Launch& launch, int rows) {
  launch.first_group[0] = 0;
  for (int i = 0; i < launch.run_count; ++i) {
    launch.first_group[i + 1] = launch.first_group[i] + (launch.runs[i].rows + rows - 1) / rows;
  }
  return launch.first_group[launch.run_count];
}

}  // namespace headrace::cuda
