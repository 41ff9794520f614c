#include "kernels/cuda/attention_tile_matrix.cuh"
#include "kernels/cuda/warp_group.cuh"

namespace headrace::cuda {
namespace {

using namespace tile_matrix;

// The block's four warps multiply as a group, which reads operands from shared memory once for all
// of them: for tiles that begin a step, so that every warp has rows that see each step. K of the
// next step is on its way from when the step's is scored, V of a step while it is: three blocks fit
// a multiprocessor.

template <typename T, int kHeadDim>
struct Shared {
  Stage<T, kHeadDim> stage;
  SharedQ<T, kHeadDim> q;
};

/// Scores of the block's rows at the step's positions.
template <typename T, int kHeadDim>
__device__ __forceinline__ void score(const SharedQ<T, kHeadDim>& shared_q, const T* k, float scale,
                                      const Mask& mask, float (&scores)[kStepTiles][4]) {
  for_scores([&](int n, int i) { scores[n][i] = 0.0f; });
  settle(scores);
  begin_products();
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    const int q = d / kLine * kRows * kLine + d % kLine;
    const uint64_t right = right_of(k + d * kStep, 0);
    multiply_add_group<T>(scores, lines_of(shared_q.high + q), right);
    multiply_add_group<T>(scores, lines_of(shared_q.low + q), right);
  }
  end_products();
  wait_for_products(scores);
  scale_and_mask(scale, mask, scores);
}

/// Adds the step's weighted V and its weights.
template <typename T, int kHeadDim>
__device__ __forceinline__ void weigh(const float (&weights)[kStepTiles][4], const T* v,
                                      RunningSums<kHeadDim / 8>& sums) {
  SplitFragment p[kStep / 16];
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) {
    p[step] = split_weights<T>(weights, step);
    settle(p[step]);
  }
  settle(sums.weighted);
  begin_products();
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) {
    const uint64_t right = right_of(v + 16 * step * kLine, kStep * kLine * sizeof(T));
    multiply_add_group<T>(sums.weighted, p[step].high, right);
    multiply_add_group<T>(sums.weighted, p[step].low, right);
  }
  end_products();
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) sums.template add_weights<T>(p[step]);
  wait_for_products(sums.weighted);
}

/// Meets the block's other threads; what copies but the last kLeft groups brought can then be
/// multiplied.
template <int kLeft>
__device__ __forceinline__ void meet_with_copies() {
  wait_for_copies<kLeft>();
  show_to_groups();
  __syncthreads();
}

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 3) attention_tile_group_kernel(AttentionParams params) {
  extern __shared__ __align__(1024) uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_vectors);
  allow_next();
  wait_for_previous();
  const Tile<T, kHeadDim> tile(params, params.tiles[blockIdx.x], static_cast<int>(blockIdx.y));
  const int first_row = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  copy_q(params, tile, first_row, reinterpret_cast<float*>(&shared.q));
  end_copies_of_stage();
  int64_t block = tile.block_of_step(0);
  tile.copy_k(0, block, shared.stage.k);
  end_copies_of_stage();
  take_q<1>(params, tile, first_row, shared.q);
  RunningSums<kHeadDim / 8> sums;
  sums.clear();
  for (int begin = 0; begin < tile.context; begin += kStep) {
    meet_with_copies<0>();  // all have the step's K, and have left the V before
    tile.copy_v(begin, block, shared.stage.v);
    end_copies_of_stage();
    block = tile.block_of_step(begin + kStep);  // known when it is needed
    const Mask mask(tile.rows.position + first_row + 1 - begin);
    float scores[kStepTiles][4];
    score(shared.q, shared.stage.k, params.scale, mask, scores);
    __syncthreads();  // all have left K
    if (begin + kStep < tile.context) tile.copy_k(begin + kStep, block, shared.stage.k);
    end_copies_of_stage();
    softmax(mask, scores, sums);
    meet_with_copies<1>();  // all have V
    weigh<T, kHeadDim>(scores, shared.stage.v, sums);
  }
  write_rows(params, tile, first_row, sums);
}

template <typename T, int kHeadDim>
bool launch_tiles(const AttentionParams& params, Queue& queue) {
  return launch_attention_tiles<attention_tile_group_kernel<T, kHeadDim>>(
      kThreads, sizeof(Shared<T, kHeadDim>), params, queue);
}

}  // namespace

bool attention_tiles_together(const AttentionParams& params, Queue& queue) {
  bool launched = false;
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim,
                          (launched = launch_tiles<T, kHeadDim>(params, queue)))
  return launched;
}

}  // namespace headrace::cuda
