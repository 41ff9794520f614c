#include "kernels/cuda/attention_tile_matrix.cuh"

namespace headrace::cuda {

void attention_tiles_matrix(const AttentionParams& params, Queue& queue) {
  if (attention_tiles_together(params, queue)) return;
  HR_DISPATCH_SPECIALIZED(  // fits every device
      params.kv, T, kHeadDim,
      (tile_matrix::launch_tiles<T, kHeadDim, false>(params, queue)))
}

}  // namespace headrace::cuda
