#include "kernels/cuda/attention_matrix.cuh"
#include "kernels/cuda/row_rotation.cuh"

namespace headrace::cuda {
namespace {

// A block attends for a tile of 64 rows and one head; a warp owns 16 of the rows, and all positions
// and dimensions of them. K and V of a step of 64 positions pass through shared memory, those of the
// next on their way while this one's are used. Scores, weights and sums stay in registers.
constexpr int kRows = kPrefillTileRows;
constexpr int kWarpRows = 16;
constexpr int kThreads = kRows / kWarpRows * 32;
constexpr int kStages = 2;
constexpr int kStepTiles = kStep / 8;  // products of 8 positions

/// All in swizzled lines.
template <typename T, int kHeadDim>
struct Shared {
  struct Stage {
    T k[kHeadDim * kStep];  // a line per dimension
    T v[kStep * kHeadDim];  // a line per position
  };
  Stage stages[kStages];
  T q_high[kRows * kHeadDim];  // a line per row
  T q_low[kRows * kHeadDim];
};

/// One tile and head.
template <typename T, int kHeadDim>
struct Tile {
  RowTile rows;
  int head;
  int context;  // positions that the last row sees
  HeadCache<T, kHeadDim> cache;

  __device__ Tile(const AttentionParams& params, const RowTile& tile, int head_index)
      : rows(tile),
        head(head_index),
        context(tile.position + tile.rows),
        cache(params, tile, head_index) {}

  /// Begins to copy K and V of positions [begin, begin + kStep), zeros for those that no row sees.
  __device__ __forceinline__ void copy(int begin, typename Shared<T, kHeadDim>::Stage& stage) const {
    constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
    constexpr int kKVectors = kStep / kVector;
    constexpr int kVVectors = kHeadDim / kVector;
    const int thread = static_cast<int>(threadIdx.x);
    const int column = thread % kKVectors * kVector;
    const int position = begin + column;
    const bool seen = position < context;
    const T* const k_from = seen ? cache.k_at(position) : cache.k;
#pragma unroll
    for (int i = 0; i < kHeadDim * kKVectors / kThreads; ++i) {
      const int d = i * (kThreads / kKVectors) + thread / kKVectors;
      copy_vector(stage.k + d * kStep + swizzled(d, column), k_from + cache.k_dim(d), seen);
    }
    const int v_column = thread % kVVectors * kVector;
#pragma unroll
    for (int i = 0; i < kStep * kVVectors / kThreads; ++i) {
      const int t = i * (kThreads / kVVectors) + thread / kVVectors;
      const int at = begin + t;
      copy_vector(stage.v + t * kHeadDim + swizzled(t, v_column),
                  at < context ? cache.v_at(at) + v_column : cache.v, at < context);
    }
    end_copies_of_stage();
  }
};

/// Q of the warp's rows, rotated here unless that was done before; rows past the tile are zero.
template <typename T, int kHeadDim>
__device__ __forceinline__ void load_q(const AttentionParams& params,
                                       const Tile<T, kHeadDim>& tile, int first_row,
                                       Shared<T, kHeadDim>& shared) {
  constexpr int kHalf = kHeadDim / 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto store = [&](int line, int d, float2 pair) {
    const int at = line * kHeadDim + swizzled(line, d);
    split_pair<T>(pair.x, pair.y, *reinterpret_cast<unsigned*>(shared.q_high + at),
                  *reinterpret_cast<unsigned*>(shared.q_low + at));
  };
#pragma unroll 4
  for (int i = lane; i < kWarpRows * kHalf / 2; i += 32) {
    const int line = first_row + i / (kHalf / 2);
    const int d = i % (kHalf / 2) * 2;
    const bool present = line < tile.rows.rows;
    const int64_t row = tile.rows.row_begin + (present ? line : 0);
    const float* const from =
        params.qkv + row * params.qkv_stride + static_cast<int64_t>(tile.head) * kHeadDim + d;
    float2 a = *reinterpret_cast<const float2*>(from);
    float2 b = *reinterpret_cast<const float2*>(from + kHalf);
    if (params.rope.cos != nullptr) {
      const float2 cos = *reinterpret_cast<const float2*>(params.rope.cos + row * kHalf + d);
      const float2 sin = *reinterpret_cast<const float2*>(params.rope.sin + row * kHalf + d);
      const float2 first = RowRotation{cos.x, sin.x}.of(make_float2(a.x, b.x));
      const float2 second = RowRotation{cos.y, sin.y}.of(make_float2(a.y, b.y));
      a = make_float2(first.x, second.x);
      b = make_float2(first.y, second.y);
    }
    if (!present) a = b = make_float2(0.0f, 0.0f);
    store(line, d, a);
    store(line, d + kHalf, b);
  }
  __syncwarp();
}

/// Scores of the warp's rows at the step's positions; of row g + 8 * upper the first visible[upper].
template <typename T, int kHeadDim>
__device__ __forceinline__ void score(const Shared<T, kHeadDim>& shared, const T* k, int first_row,
                                      float scale, const int (&visible)[2],
                                      float (&scores)[kStepTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kStepTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0.0f;
  }
  const int line = first_row + lane % 16;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    SplitFragment q;
    const int at = line * kHeadDim + swizzled(line, d + lane / 16 * 8);
    load_left(shared.q_high + at, q.high);
    load_left(shared.q_low + at, q.low);
    multiply_add_many<T, kStep, kStepTiles>(scores, q, k, d, 0);
  }
#pragma unroll
  for (int n = 0; n < kStepTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = 8 * n + 2 * (lane % 4) + i % 2;
      scores[n][i] = position < visible[i / 2] ? __fmul_rn(scores[n][i], scale) : -INFINITY;
    }
  }
}

/// Turns scores into weights, against the largest score so far, after what that changes in the sums.
template <int kTiles>
__device__ __forceinline__ void softmax(float (&scores)[kStepTiles][4], RunningSums<kTiles>& sums) {
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    float most = -INFINITY;
#pragma unroll
    for (int n = 0; n < kStepTiles; ++n) {
      most = larger(larger(most, scores[n][2 * upper]), scores[n][2 * upper + 1]);
    }
#pragma unroll
    for (int s = 2; s > 0; s /= 2) most = larger(most, __shfl_xor_sync(0xffffffffu, most, s));
    sums.raise_max(upper, most);
  }
#pragma unroll
  for (int n = 0; n < kStepTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[n][i] = canonical_exp(__fsub_rn(scores[n][i], sums.max[i / 2]));
    }
  }
}

/// Adds the step's weighted V and its weights.
template <typename T, int kHeadDim>
__device__ __forceinline__ void weigh(const float (&weights)[kStepTiles][4], const T* v,
                                      RunningSums<kHeadDim / 8>& sums) {
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) {
    SplitFragment p;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&from)[4] = weights[2 * step + i / 2];
      split_pair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1], p.high.words[i], p.low.words[i]);
    }
    sums.template add_weights<T>(p);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; n += 8) {
      multiply_add_many<T, kHeadDim, 8>(sums.weighted + n, p, v, 16 * step, 8 * n);
    }
  }
}

template <typename T, int kHeadDim>
__device__ __forceinline__ void write_rows(const AttentionParams& params,
                                           const Tile<T, kHeadDim>& tile, int first_row,
                                           const RunningSums<kHeadDim / 8>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    const int in_tile = first_row + lane / 4 + 8 * upper;
    if (in_tile >= tile.rows.rows) continue;
    T* const out =
        reinterpret_cast<T*>(params.out) +
        ((tile.rows.row_begin + static_cast<int64_t>(in_tile)) * params.heads + tile.head) *
            kHeadDim +
        2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      const float(&from)[4] = sums.weighted[n];
      *reinterpret_cast<unsigned*>(out + 8 * n) =
          packed(round_to<T>(__fdiv_rn(from[2 * upper], sums.sum[2 * upper])),
                 round_to<T>(__fdiv_rn(from[2 * upper + 1], sums.sum[2 * upper])));
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
  const int lane = static_cast<int>(threadIdx.x) % 32;
  tile.copy(0, shared.stages[0]);
  load_q(params, tile, first_row, shared);
  RunningSums<kHeadDim / 8> sums;
  sums.clear();
  for (int begin = 0, n = 0; begin < tile.context; begin += kStep, ++n) {
    wait_for_copies<0>();
    __syncthreads();  // all have the step, and have left the one before
    if (begin + kStep < tile.context) tile.copy(begin + kStep, shared.stages[(n + 1) % kStages]);
    const int first_visible = tile.rows.position + first_row + 1 - begin;
    if (first_visible + kWarpRows - 1 <= 0) continue;  // of all the warp's rows
    const auto& stage = shared.stages[n % kStages];
    const int visible[2] = {first_visible + lane / 4, first_visible + lane / 4 + 8};
    float scores[kStepTiles][4];
    score(shared, stage.k, first_row, params.scale, visible, scores);
    softmax(scores, sums);
    weigh<T, kHeadDim>(scores, stage.v, sums);
  }
  write_rows(params, tile, first_row, sums);
}

template <typename T, int kHeadDim>
void launch_tiles(const AttentionParams& params, Queue& queue) {
  const dim3 grid(static_cast<unsigned>(params.tile_count), static_cast<unsigned>(params.heads));
  launch_attention<attention_tile_matrix_kernel<T, kHeadDim>>(
      grid, kThreads, sizeof(Shared<T, kHeadDim>), params, queue);  // fits every device
}

}  // namespace

void attention_tiles_matrix(const AttentionParams& params, Queue& queue) {
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim, (launch_tiles<T, kHeadDim>(params, queue)))
}

}  // namespace headrace::cuda
