#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kNoToken = 0x7fffffff;

/// The larger logit, and of equals the smaller id; a NaN is never larger.
__device__ __forceinline__ void take_larger(float& logit, int& id, float other, int other_id) {
  if (other > logit || (other == logit && other_id < id)) {
    logit = other;
    id = other_id;
  }
}

/// A block per row. NaN and +infinity make sum_exp a NaN, which the host reports.
__global__ void __launch_bounds__(kThreads)
    top_logits_kernel(const float* logits, int64_t vocab, TopLogit* top) {
  allow_next();
  wait_for_previous();
  __shared__ float shared_values[kThreads / 32];
  __shared__ int shared_ids[kThreads / 32];
  const float* row = logits + blockIdx.x * vocab;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;

  float best = -INFINITY;
  int id = kNoToken;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    take_larger(best, id, row[i], static_cast<int>(i));
  }
  const auto reduce = [&] {
#pragma unroll
    for (int s = 16; s > 0; s /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, best, s);
      const int other_id = __shfl_xor_sync(0xffffffffu, id, s);
      take_larger(best, id, other, other_id);
    }
  };
  reduce();
  if (lane == 0) {
    shared_values[warp] = best;
    shared_ids[warp] = id;
  }
  __syncthreads();
  best = shared_values[lane];
  id = shared_ids[lane];
  reduce();
  __syncthreads();

  float sum = 0.0f;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    sum = __fadd_rn(sum, canonical_exp(__fsub_rn(row[i], best)));
  }
  sum = tree_sum<32>(sum);
  if (lane == 0) shared_values[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = tree_sum<32>(shared_values[lane]);
    if (lane == 0) top[blockIdx.x] = {id == kNoToken ? 0 : id, best, sum};
  }
}

}  // namespace

void top_logits(const float* logits, int64_t rows, int64_t vocab, TopLogit* top,
                Queue& queue) {
  launch(queue, top_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, logits, vocab, top);
}

}  // namespace headrace::cuda
