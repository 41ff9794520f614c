#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_matrix.cuh"

namespace headrace::cuda {
namespace {

using namespace decode;

// The row is the first of 16 that a product on tensor cores takes; the others are zero. A warp scores
// the positions of one step of the split, and owns a quarter of the dimensions of the output.
constexpr int kWarpScores = kStep / 8;  // products of 8 positions
static_assert(kSplit / kStep == kWarps);

template <typename T, int kHeadDim>
struct Shared {
  OwnRow<T, kHeadDim> own;
  alignas(4) T q_high[kHeadDim];
  alignas(4) T q_low[kHeadDim];
  float scores[kSplit];
  alignas(4) T p_high[kSplit];
  alignas(4) T p_low[kSplit];
  float step_max[kWarps];
};

/// Columns [column, column + 16) of the row, as the first of 16.
template <typename T>
__device__ __forceinline__ SplitFragment row_fragment(const T* high, const T* low, int column) {
  SplitFragment fragment = {};
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane < 4) {
    const auto* const high_words = reinterpret_cast<const unsigned*>(high + column) + lane;
    const auto* const low_words = reinterpret_cast<const unsigned*>(low + column) + lane;
    fragment.high.words[0] = high_words[0];
    fragment.high.words[2] = high_words[4];
    fragment.low.words[0] = low_words[0];
    fragment.low.words[2] = low_words[4];
  }
  return fragment;
}

/// Adds a chunk of K to the dot products of the warp's positions.
template <typename T, int kHeadDim>
__device__ __forceinline__ void add_scores(const T* stage, int chunk,
                                           const Shared<T, kHeadDim>& shared,
                                           float (&dots)[kWarpScores][4]) {
  using C = Chunks<T, kHeadDim>;
  const int first = static_cast<int>(threadIdx.x) / 32 * kStep;
#pragma unroll
  for (int d = 0; d < C::kKDims; d += 16) {
    const SplitFragment q = row_fragment(shared.q_high, shared.q_low, chunk * C::kKDims + d);
    multiply_add_many<T, kSplit, kWarpScores>(dots, q, stage, d, first);
  }
}

/// From the warp's dot products to scores, in shared memory, and their maximum.
template <typename T, int kHeadDim>
__device__ __forceinline__ void finish_scores(const float (&dots)[kWarpScores][4], float scale,
                                              int count, Shared<T, kHeadDim>& shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float most = -INFINITY;
  if (lane < 4) {
#pragma unroll
    for (int n = 0; n < kWarpScores; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = warp * kStep + 8 * n + 2 * lane + i;
        const float score = at < count ? __fmul_rn(dots[n][i], scale) : -INFINITY;
        shared.scores[at] = score;
        most = larger(most, score);
      }
    }
  }
#pragma unroll
  for (int s = 2; s > 0; s /= 2) most = larger(most, __shfl_xor_sync(0xffffffffu, most, s));
  if (lane == 0) shared.step_max[warp] = most;
}

/// Turns the split's scores into weights, in shared memory; `max` is the largest score before it.
template <typename T, int kHeadDim>
__device__ __forceinline__ void weights_of(float max, Shared<T, kHeadDim>& shared) {
  const int first = 2 * static_cast<int>(threadIdx.x);
#pragma unroll
  for (int step = 0; step < kWarps; ++step) {
    if (step <= first / kStep) max = larger(max, shared.step_max[step]);
  }
#pragma unroll
  for (int i = first; i < first + 2; ++i) {
    split_value(canonical_exp(__fsub_rn(shared.scores[i], max)), shared.p_high[i],
                shared.p_low[i]);
  }
}

/// A block per (head, tile of one row).
template <typename T, int kHeadDim, int kStages>
__global__ void __launch_bounds__(kThreads, 3)
    attention_decode_matrix_kernel(AttentionParams params) {
  using C = Chunks<T, kHeadDim>;
  constexpr int kWarpDims = kHeadDim / kWarps;
  extern __shared__ uint4 stage_vectors[];
  __shared__ Shared<T, kHeadDim> shared;
  allow_next();
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int first_dim = thread / 32 * kWarpDims;
  const Query<T, kHeadDim, true> query(params, params.tiles[blockIdx.y],
                                       static_cast<int>(blockIdx.x));
  const int splits = (query.context + kSplit - 1) / kSplit;
  // What is in the cache can come to L2 while the kernel before runs.
  if (const int position = thread / 2 << query.cache.block_shift; position < query.context) {
    prefetch((thread % 2 == 0 ? query.cache.k : query.cache.v) + query.cache.block_at(position),
             static_cast<int>(sizeof(T)) * kHeadDim << query.cache.block_shift);
  }
  wait_for_previous();

  // Of the last split only V that the row sees.
  const int last_count = query.context - (splits - 1) * kSplit;
  const int chunks = splits * C::kOfSplit - (kSplit - last_count) / C::kVPositions;
  const auto stage = [&](int n) {
    return reinterpret_cast<T*>(stage_vectors) + n % kStages * C::kElements;
  };
  const auto copy = [&](int n) {
    if (n < chunks) query.copy(n / C::kOfSplit * kSplit, n % C::kOfSplit, stage(n));
    end_copies_of_stage();
  };
#pragma unroll
  for (int n = 0; n < kStages - 1; ++n) copy(n);
  // The row's own K and V may not be in the cache yet; its split takes them from here.
  const int own_position = params.rope.stores ? query.context - 1 : -1;
  if (params.rope.cos == nullptr) {
    if (thread < kHeadDim) {
      shared.own.q[thread] =
          params.qkv[query.row * params.qkv_stride + query.head * kHeadDim + thread];
    }
  } else if (thread < kHeadDim / 2) {
    rotate_and_store(params, query, params.rope.stores, shared.own);
  }
  __syncthreads();
  if (thread < kHeadDim) {
    split_value(shared.own.q[thread], shared.q_high[thread], shared.q_low[thread]);
  }

  RunningSums<kWarpDims / 8> sums;
  sums.clear();
  int n = 0;
  for (int split = 0; split < splits; ++split) {
    const int count = min(kSplit, query.context - split * kSplit);
    const int own = own_position - split * kSplit;  // negative, or past the split: not here
    float dots[kWarpScores][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < C::kOfK; ++chunk, ++n) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // all have the chunk, and have left the one before
      copy(n + kStages - 1);
      if (0 <= own && own < kSplit) {  // for the warp that scores it
        if (own / kStep == thread / 32) {
          for (int d = lane; d < C::kKDims; d += 32) {
            stage(n)[d * kSplit + swizzled(d, own)] = shared.own.k[chunk * C::kKDims + d];
          }
          __syncwarp();
        }
      }
      if (thread / 32 * kStep < count) add_scores(stage(n), chunk, shared, dots);
    }
    finish_scores(dots, params.scale, count, shared);
    __syncthreads();
    weights_of(sums.max[0], shared);
#pragma unroll
    for (int chunk = 0; chunk < C::kOfV; ++chunk, ++n) {
      if (chunk * C::kVPositions >= count) break;
      wait_for_copies<kStages - 2>();
      __syncthreads();
      copy(n + kStages - 1);
      const int begin = chunk * C::kVPositions;
      if (begin <= own && own < begin + C::kVPositions) {  // the warp reads its dimensions alone
        for (int d = first_dim + lane; d < first_dim + kWarpDims; d += 32) {
          stage(n)[(own - begin) * kHeadDim + swizzled(own - begin, d)] = shared.own.v[d];
        }
        __syncwarp();
      }
#pragma unroll
      for (int t = 0; t < C::kVPositions; t += 16) {
        if (begin + t / kStep * kStep >= count) break;
        if (t % kStep == 0) sums.raise_max(0, shared.step_max[(begin + t) / kStep]);
        const SplitFragment p = row_fragment(shared.p_high, shared.p_low, begin + t);
        sums.template add_weights<T>(p);
        multiply_add_many<T, kHeadDim, kWarpDims / 8>(sums.weighted, p, stage(n), t, first_dim);
      }
    }
  }
  if (lane >= 4) return;
  T* const out = reinterpret_cast<T*>(params.out) +
                 (query.row * params.heads + query.head) * kHeadDim + first_dim + 2 * lane;
#pragma unroll
  for (int tile = 0; tile < kWarpDims / 8; ++tile) {
    *reinterpret_cast<unsigned*>(out + 8 * tile) =
        packed(round_to<T>(__fdiv_rn(sums.weighted[tile][0], sums.sum[0])),
               round_to<T>(__fdiv_rn(sums.weighted[tile][1], sums.sum[0])));
  }
}

template <typename T, int kHeadDim>
void launch_decode(const AttentionParams& params, Queue& queue) {
  constexpr int64_t kFewBlocks = 128;
  const dim3 grid(static_cast<unsigned>(params.heads), static_cast<unsigned>(params.tile_count));
  const bool few = params.heads * params.tile_count <= kFewBlocks;
  if (few && launch_attention<attention_decode_matrix_kernel<T, kHeadDim, kMoreStages>>(
                 grid, kThreads, kMoreStages * kChunkBytes, params, queue)) {
    return;
  }
  launch_attention<attention_decode_matrix_kernel<T, kHeadDim, kStages>>(
      grid, kThreads, kStages * kChunkBytes, params, queue);  // fits every device
}

}  // namespace

void attention_decode_matrix(const AttentionParams& params, Queue& queue) {
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim, (launch_decode<T, kHeadDim>(params, queue)))
}

}  // namespace headrace::cuda
