#pragma once

#include "kernels/cuda/attention_matrix.cuh"
#include "kernels/cuda/row_rotation.cuh"
#include "kernels/cuda/warp_group.cuh"

/// Attention of the matrix class for tiles of rows: the kernel, for the files that make it.
namespace headrace::cuda::tile_matrix {

// A block attends for a tile of 64 rows and one head; a warp owns 16 of the rows, and all positions
// and dimensions of them. K and V of a step of 64 positions pass through shared memory, those of the
// next on their way while this one's are used. Scores, weights and sums stay in registers.
constexpr int kRows = kPrefillTileRows;
constexpr int kWarpRows = 16;
constexpr int kThreads = kRows / kWarpRows * 32;
constexpr int kStages = 2;
constexpr int kStepTiles = kStep / 8;  // products of 8 positions

constexpr int kLine = 64;              // elements: 128 bytes, as warp groups read them

/// All in swizzled lines of kLine elements; what is wider lies in halves, one after the other.
template <typename T, int kHeadDim>
struct Shared {
  struct Stage {
    T k[kHeadDim * kStep];  // a line per dimension
    T v[kStep * kHeadDim];  // a line per position
  };
  Stage stages[kStages];
  T q_high[kRows * kHeadDim];  // a line per row
  T q_low[kRows * kHeadDim];

  /// Where a column of one of kLines lines is.
  template <int kLines>
  static __device__ __forceinline__ int place(int line, int column) {
    return (column / kLine * kLines + line) * kLine + swizzled(line, column % kLine);
  }
};
static_assert(kStep == kLine);

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
    constexpr int kKLines = kThreads / kKVectors;  // at once
    constexpr int kVLines = kThreads / kVVectors;
    static_assert(kKLines % 8 == 0 && kVLines % 8 == 0);  // so that they are swizzled alike
    const int thread = static_cast<int>(threadIdx.x);
    const int k_line = thread / kKVectors;
    const int k_column = thread % kKVectors * kVector;
    const int v_line = thread / kVVectors;
    const int v_column = thread % kVVectors * kVector;
    T* const k_to = stage.k + k_line * kStep + swizzled(k_line, k_column);
    T* const v_to = stage.v + Shared<T, kHeadDim>::template place<kStep>(v_line, v_column);
    const int seen = context - begin;
    const bool one_block = (1 << cache.block_shift) >= kStep;
    const T* k_from = cache.k_at(one_block || k_column < seen ? begin + k_column : begin) +
                      cache.k_dim(k_line);
#pragma unroll
    for (int i = 0; i < kHeadDim / kKLines; ++i) {
      copy_vector(k_to + i * kKLines * kStep, k_from, k_column < seen);
      k_from += cache.k_dim(kKLines);
    }
    const T* const v_from = cache.v_at(begin) + v_column;
#pragma unroll
    for (int i = 0; i < kStep / kVLines; ++i) {
      const int line = i * kVLines + v_line;
      const T* from = v_from + line * kHeadDim;
      if (!one_block) from = cache.v_at(line < seen ? begin + line : begin) + v_column;
      copy_vector(v_to + i * kVLines * kLine, from, line < seen);
    }
    end_copies_of_stage();
  }
};

/// Begins to copy Q of the warp's rows as it is; zeros past the tile.
template <typename T, int kHeadDim>
__device__ __forceinline__ void copy_q(const AttentionParams& params, const Tile<T, kHeadDim>& tile,
                                       int first_row, float* to) {
  constexpr int kVectors = kHeadDim / 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kWarpRows * kVectors / 32; ++i) {
    const int line = first_row + (i * 32 + lane) / kVectors;
    const int d = (i * 32 + lane) % kVectors * 4;
    const bool present = line < tile.rows.rows;
    const int64_t row = tile.rows.row_begin + (present ? line : 0);
    copy_vector(to + line * kHeadDim + d,
                params.qkv + row * params.qkv_stride + static_cast<int64_t>(tile.head) * kHeadDim + d,
                present);
  }
}

/// Q of the warp's rows from where copy_q() brings it, rotated here unless that was done before.
template <typename T, int kHeadDim>
__device__ __forceinline__ void take_q(const AttentionParams& params, const Tile<T, kHeadDim>& tile,
                                       int first_row, const float* copied,
                                       Shared<T, kHeadDim>& shared) {
  constexpr int kHalf = kHeadDim / 2;
  constexpr int kVectors = kHalf / 4;
  constexpr int kCount = kWarpRows * kVectors / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto line_of = [&](int i) { return first_row + (i * 32 + lane) / kVectors; };
  const int d = lane % kVectors * 4;
  float4 cos[kCount];
  float4 sin[kCount];
  if (params.rope.cos != nullptr) {  // all of them on their way at once
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int line = min(line_of(i), tile.rows.rows - 1);
      const int64_t at = (tile.rows.row_begin + static_cast<int64_t>(line)) * kHalf + d;
      cos[i] = *reinterpret_cast<const float4*>(params.rope.cos + at);
      sin[i] = *reinterpret_cast<const float4*>(params.rope.sin + at);
    }
  }
  wait_for_copies<0>();
  __syncwarp();
  const auto store = [&](int line, int column, float4 values) {
    const int at = Shared<T, kHeadDim>::template place<kRows>(line, column);
    uint2 high;
    uint2 low;
    split_pair<T>(values.x, values.y, high.x, low.x);
    split_pair<T>(values.z, values.w, high.y, low.y);
    *reinterpret_cast<uint2*>(shared.q_high + at) = high;
    *reinterpret_cast<uint2*>(shared.q_low + at) = low;
  };
  const auto rotate = [](float& x, float& y, float cos, float sin) {
    const float2 rotated = RowRotation{cos, sin}.of(make_float2(x, y));
    x = rotated.x;
    y = rotated.y;
  };
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int line = line_of(i);
    float4 a = *reinterpret_cast<const float4*>(copied + line * kHeadDim + d);
    float4 b = *reinterpret_cast<const float4*>(copied + line * kHeadDim + d + kHalf);
    if (params.rope.cos != nullptr) {
      rotate(a.x, b.x, cos[i].x, sin[i].x);
      rotate(a.y, b.y, cos[i].y, sin[i].y);
      rotate(a.z, b.z, cos[i].z, sin[i].z);
      rotate(a.w, b.w, cos[i].w, sin[i].w);
    }
    store(line, d, a);
    store(line, d + kHalf, b);
  }
  __syncwarp();
}

/// Of row g + 8 * upper of the warp, the first visible[upper] positions of a step count.
struct Mask {
  int visible[2];
  bool all;  // of all rows

  __device__ Mask(int first_visible)
      : visible{first_visible + static_cast<int>(threadIdx.x) % 32 / 4,
                first_visible + static_cast<int>(threadIdx.x) % 32 / 4 + 8},
        all(first_visible >= kStep) {}

  /// Whether number i of tile n of the lane does not count.
  __device__ __forceinline__ bool hides(int n, int i) const {
    return 8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2 >= visible[i / 2];
  }
};

/// Calls body(n, i) for all scores of a lane.
template <typename Body>
__device__ __forceinline__ void for_scores(Body body) {
#pragma unroll
  for (int n = 0; n < kStepTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) body(n, i);
  }
}

/// From products to scores.
__device__ __forceinline__ void scale_and_mask(float scale, const Mask& mask,
                                               float (&scores)[kStepTiles][4]) {
  for_scores([&](int n, int i) { scores[n][i] = __fmul_rn(scores[n][i], scale); });
  if (mask.all) return;
  for_scores([&](int n, int i) {
    if (mask.hides(n, i)) scores[n][i] = -INFINITY;
  });
}

/// Scores of the warp's rows at the step's positions.
template <typename T, int kHeadDim>
__device__ __forceinline__ void score(const Shared<T, kHeadDim>& shared, const T* k, int first_row,
                                      float scale, const Mask& mask,
                                      float (&scores)[kStepTiles][4]) {
  for_scores([&](int n, int i) { scores[n][i] = 0.0f; });
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = first_row + lane % 16;
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    SplitFragment q;
    const int at = Shared<T, kHeadDim>::template place<kRows>(line, d + lane / 16 * 8);
    load_left(shared.q_high + at, q.high);
    load_left(shared.q_low + at, q.low);
    multiply_add_many<T, kStep, kStepTiles>(scores, q, k, d, 0);
  }
  scale_and_mask(scale, mask, scores);
}

/// The same of the rows of four warps together, which all call it.
template <typename T, int kHeadDim>
__device__ __forceinline__ void score_together(const Shared<T, kHeadDim>& shared, const T* k,
                                               float scale, const Mask& mask,
                                               float (&scores)[kStepTiles][4]) {
  for_scores([&](int n, int i) { scores[n][i] = 0.0f; });
  begin_products();
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    const int q = d / kLine * kRows * kLine + d % kLine;
    const uint64_t right = right_of(k + d * kStep, 0);
    multiply_add_group<T>(scores, left_of(shared.q_high + q), right);
    multiply_add_group<T>(scores, left_of(shared.q_low + q), right);
  }
  end_products();
  wait_for_products(scores);
  scale_and_mask(scale, mask, scores);
}

/// Turns scores into weights, against the largest score so far, after what that changes in the sums.
template <int kTiles>
__device__ __forceinline__ void softmax(const Mask& mask, float (&scores)[kStepTiles][4],
                                        RunningSums<kTiles>& sums) {
  // fmaxf() passes over NaN as larger() does; which of two zeros is the larger changes no weight.
  float most[2] = {-INFINITY, -INFINITY};
  for_scores([&](int n, int i) { most[i / 2] = fmaxf(most[i / 2], scores[n][i]); });
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
#pragma unroll
    for (int s = 2; s > 0; s /= 2) {
      most[upper] = fmaxf(most[upper], __shfl_xor_sync(0xffffffffu, most[upper], s));
    }
    sums.raise_max(upper, most[upper]);
  }
  for_scores([&](int n, int i) { scores[n][i] = __fsub_rn(scores[n][i], sums.max[i / 2]); });
  bool normal = true;  // no NaN either
  if (mask.all) {
    for_scores([&](int n, int i) { normal &= scores[n][i] >= kExpNormalLowest; });
  } else {
    for_scores([&](int n, int i) {
      normal &= (scores[n][i] >= kExpNormalLowest) | mask.hides(n, i);
    });
  }
  if (!__all_sync(0xffffffffu, normal)) {
    for_scores([&](int n, int i) { scores[n][i] = canonical_exp(scores[n][i]); });
    return;
  }
  for_scores([&](int n, int i) { scores[n][i] = exp_of_normal(scores[n][i]); });
  if (mask.all) return;
  for_scores([&](int n, int i) {
    if (mask.hides(n, i)) scores[n][i] = 0.0f;
  });
}

template <typename T>
__device__ __forceinline__ SplitFragment split_weights(const float (&weights)[kStepTiles][4],
                                                       int step) {
  SplitFragment p;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float(&from)[4] = weights[2 * step + i / 2];
    split_pair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1], p.high.words[i], p.low.words[i]);
  }
  return p;
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

/// The same of the rows of four warps together, which all call it.
template <typename T, int kHeadDim>
__device__ __forceinline__ void weigh_together(const float (&weights)[kStepTiles][4], const T* v,
                                               RunningSums<kHeadDim / 8>& sums) {
  SplitFragment p[kStep / 16];
#pragma unroll
  for (int step = 0; step < kStep / 16; ++step) p[step] = split_weights<T>(weights, step);
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

/// With kTogether, the block's four warps multiply as a warp group, which reads operands from shared memory
/// once for all of them, where each has rows that see the step: tiles that begin a step.
template <typename T, int kHeadDim, bool kTogether>
__global__ void __launch_bounds__(kThreads, 2)
    attention_tile_matrix_kernel(AttentionParams params) {
  extern __shared__ __align__(1024) uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<Shared<T, kHeadDim>*>(shared_vectors);
  allow_next();
  wait_for_previous();
  const Tile<T, kHeadDim> tile(params, params.tiles[blockIdx.x], static_cast<int>(blockIdx.y));
  const int first_row = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  auto* const copied_q = reinterpret_cast<float*>(&shared.stages[1]);  // not needed yet
  static_assert(sizeof(shared.stages[1]) >= kRows * kHeadDim * sizeof(float));
  copy_q(params, tile, first_row, copied_q);
  tile.copy(0, shared.stages[0]);
  take_q(params, tile, first_row, copied_q, shared);
  RunningSums<kHeadDim / 8> sums;
  sums.clear();
  for (int begin = 0, n = 0; begin < tile.context; begin += kStep, ++n) {
    wait_for_copies<0>();
    if constexpr (kTogether) show_to_groups();
    __syncthreads();  // all have the step, and have left the one before
    if (begin + kStep < tile.context) tile.copy(begin + kStep, shared.stages[(n + 1) % kStages]);
    const int first_visible = tile.rows.position + first_row + 1 - begin;
    if (first_visible + kWarpRows - 1 <= 0) continue;  // of all the warp's rows
    const auto& stage = shared.stages[n % kStages];
    const Mask mask(first_visible);
    float scores[kStepTiles][4];
    if constexpr (kTogether) {
      if (tile.rows.position % kStep == 0) {
        score_together(shared, stage.k, params.scale, mask, scores);
        softmax(mask, scores, sums);
        weigh_together<T, kHeadDim>(scores, stage.v, sums);
        continue;
      }
    }
    score(shared, stage.k, first_row, params.scale, mask, scores);
    softmax(mask, scores, sums);
    weigh<T, kHeadDim>(scores, stage.v, sums);
  }
  write_rows(params, tile, first_row, sums);
}

/// False, and nothing is launched, where the device has no such kernel.
template <typename T, int kHeadDim, bool kTogether>
bool launch_tiles(const AttentionParams& params, Queue& queue) {
  const dim3 grid(static_cast<unsigned>(params.tile_count), static_cast<unsigned>(params.heads));
  return launch_attention<attention_tile_matrix_kernel<T, kHeadDim, kTogether>>(
      grid, kThreads, sizeof(Shared<T, kHeadDim>), params, queue);
}

}  // namespace headrace::cuda::tile_matrix
