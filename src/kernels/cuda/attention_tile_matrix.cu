#include "kernels/cuda/attention_tile_matrix.cuh"

namespace headrace::cuda {
namespace {

using namespace tile_matrix;

// Every warp multiplies for itself. K and V of the next step are on their way while a step's are
// used.
constexpr int kStages = 2;

template <typename T, int kHeadDim>
struct Shared {
  Stage<T, kHeadDim> stages[kStages];
  SharedQ<T, kHeadDim> q;
};

/// Scores of the warp's rows at the step's positions.
template <typename T, int kHeadDim>
__device__ __forceinline__ void score(const SharedQ<T, kHeadDim>& shared_q, const T* k,
                                      int first_row, float scale, const Mask& mask,
                                      float (&scores)[kStepTiles][4]) {
  for_scores([&](int n, int i) { scores[n][i] = 0.0f; });
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = first_row + lane % 16;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    SplitFragment q;
    const int at = place<kRows>(line, d + lane / 16 * 8);
    load_left(shared_q.high + at, q.high);
    load_left(shared_q.low + at, q.low);
    multiply_add_many<T, kLine, kStepTiles>(scores, q, k, d, 0);
  }
  scale_and_mask(scale, mask, scores);
}

/// Adds the step's weighted V and its weights.
template <typename T, int kHeadDim>
__device__ __forceinline__ void weigh(const float (&weights)[kStepTiles][4], const T* v,
                                      RunningSums<kHeadDim / 8>& sums) {
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) {
    const SplitFragment p = split_weights<T>(weights, step);
    sums.template add_weights<T>(p);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; n += 8) {
      multiply_add_many<T, kLine, 8>(sums.weighted + n, p, v + 8 * n * kStep, 16 * step, 0);
    }
  }
}

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 2)
    attention_tile_matrix_kernel(AttentionParams params) {
  extern __shared__ uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_vectors);
  allow_next();
  wait_for_previous();
  const Tile<T, kHeadDim> tile(params, params.tiles[blockIdx.x], static_cast<int>(blockIdx.y));
  const int first_row = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const auto copy = [&](int begin, Stage<T, kHeadDim>& to) {
    const int64_t block = tile.block_of_step(begin);
    tile.copy_k(begin, block, to.k);
    tile.copy_v(begin, block, to.v);
    end_copies_of_stage();
  };
  copy_q(params, tile, first_row, reinterpret_cast<float*>(&shared.q));
  end_copies_of_stage();
  copy(0, shared.stages[0]);
  take_q<1>(params, tile, first_row, shared.q);
  RunningSums<kHeadDim / 8> sums;
  sums.clear();
  for (int begin = 0, n = 0; begin < tile.context; begin += kStep, ++n) {
    wait_for_copies<0>();
    __syncthreads();  // all have the step, and have left the one before
    if (begin + kStep < tile.context) copy(begin + kStep, shared.stages[(n + 1) % kStages]);
    const int first_visible = tile.rows.position + first_row + 1 - begin;
    if (first_visible + kWarpRows - 1 <= 0) continue;  // of all the warp's rows
    const Stage<T, kHeadDim>& stage = shared.stages[n % kStages];
    const Mask mask(first_visible);
    float scores[kStepTiles][4];
    score(shared.q, stage.k, first_row, params.scale, mask, scores);
    softmax(mask, scores, sums);
    weigh<T, kHeadDim>(scores, stage.v, sums);
  }
  write_rows(params, tile, first_row, sums);
}

template <typename T, int kHeadDim>
void launch_tiles(const AttentionParams& params, Queue& queue) {
  launch_attention_tiles<attention_tile_matrix_kernel<T, kHeadDim>>(
      kThreads, sizeof(Shared<T, kHeadDim>), params, queue);  // fits every device
}

}  // namespace

void attention_tiles_matrix(const AttentionParams& params, Queue& queue) {
  if (params.whole_steps && attention_tiles_together(params, queue)) return;
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim, (launch_tiles<T, kHeadDim>(params, queue)))
}

}  // namespace headrace::cuda
