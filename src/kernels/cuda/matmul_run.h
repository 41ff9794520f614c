#pragma once

#include "base/error.h"
#include "kernels/backend.h"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {

/// A run of a group's rows as kernels see it.
inline MatmulRun run_of(const MatmulArgs& args, const WeightRun& run) {
  HR_CHECK(run.matrix < args.outputs.size());
  const MatrixOutput& output = args.outputs[run.matrix];
  HR_CHECK(run.row_begin >= 0 && run.row_begin + run.rows <= output.rows);
  return {.weights = run.data,
          .row_stride_bytes = run.row_stride_bytes,
          .out = output.out + run.row_begin,
          .out_stride = output.stride,
          .bias = output.bias == nullptr ? nullptr : output.bias + run.row_begin,
          .rows = static_cast<int32_t>(run.rows),
          .accumulate = output.accumulate ? 1 : 0};
}

}  // namespace headrace::cuda
