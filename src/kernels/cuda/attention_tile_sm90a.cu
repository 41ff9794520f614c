#include "kernels/cuda/attention_tile_matrix.cuh"

namespace headrace::cuda {

bool attention_tiles_together(const AttentionParams& params, Queue& queue) {
  bool launched = false;
  HR_DISPATCH_SPECIALIZED(
      params.kv, T, kHeadDim,
      (launched = tile_matrix::launch_tiles<T, kHeadDim, true>(params, queue)))
  return launched;
}

}  // namespace headrace::cuda
