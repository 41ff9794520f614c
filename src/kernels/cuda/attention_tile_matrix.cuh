#pragma once

#include "kernels/cuda/attention_matrix.cuh"
#include "kernels/cuda/row_rotation.cuh"

/// Attention of the matrix class for tiles of rows: what its two kernels share.
namespace headrace::cuda::tile_matrix {

// A block attends for a tile of 64 rows and one head; a warp owns 16 of the rows, and all positions
// and dimensions of them. K and V of a step of 64 positions pass through shared memory, while
// scores, weights and sums stay in registers.
constexpr int kRows = kPrefillTileRows;
constexpr int kWarpRows = 16;
constexpr int kThreads = kRows / kWarpRows * 32;
constexpr int kStepTiles = kStep / 8;  // products of 8 positions

constexpr int kLine = 64;  // elements: 128 bytes, as warp groups read them

/// All in swizzled lines of kLine elements; what is wider lies in halves, one after the other.
template <typename T, int kHeadDim>
struct Stage {
  T k[kHeadDim * kStep];  // a line per dimension
  T v[kStep * kHeadDim];  // a line per position
};
template <typename T, int kHeadDim>
struct SharedQ {
  T high[kRows * kHeadDim];  // a line per row
  T low[kRows * kHeadDim];
};
static_assert(kStep == kLine);

/// Where a column of one of kLines lines is.
template <int kLines>
__device__ __forceinline__ int place(int line, int column) {
  return (column / kLine * kLines + line) * kLine + swizzled(line, column % kLine);
}

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

  /// Begins to copy K of positions [begin, begin + kStep), zeros for those that no row sees.
  __device__ __forceinline__ void copy_k(int begin, T* to) const {
    constexpr int kVectors = kStep / kVector;
    constexpr int kLines = kThreads / kVectors;  // at once
    static_assert(kLines % 8 == 0);              // so that they are swizzled alike
    const int line = static_cast<int>(threadIdx.x) / kVectors;
    const int column = static_cast<int>(threadIdx.x) % kVectors * kVector;
    const int seen = context - begin;
    T* const first = to + place<kHeadDim>(line, column);
    const T* from =
        cache.k_at(one_block() || column < seen ? begin + column : begin) + cache.k_dim(line);
#pragma unroll
    for (int i = 0; i < kHeadDim / kLines; ++i) {
      copy_vector(first + i * kLines * kLine, from, column < seen);
      from += cache.k_dim(kLines);
    }
  }
  /// V, likewise.
  __device__ __forceinline__ void copy_v(int begin, T* to) const {
    constexpr int kVectors = kHeadDim / kVector;
    constexpr int kLines = kThreads / kVectors;
    static_assert(kLines % 8 == 0);
    const int first_line = static_cast<int>(threadIdx.x) / kVectors;
    const int column = static_cast<int>(threadIdx.x) % kVectors * kVector;
    const int seen = context - begin;
    T* const first = to + place<kStep>(first_line, column);
    const T* const first_from = cache.v_at(begin) + column;
#pragma unroll
    for (int i = 0; i < kStep / kLines; ++i) {
      const int line = i * kLines + first_line;
      const T* from = first_from + line * kHeadDim;
      if (!one_block()) from = cache.v_at(line < seen ? begin + line : begin) + column;
      copy_vector(first + i * kLines * kLine, from, line < seen);
    }
  }

 private:
  static constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));

  /// Whether all positions of a step lie in one.
  __device__ __forceinline__ bool one_block() const { return (1 << cache.block_shift) >= kStep; }
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
    copy_vector(
        to + line * kHeadDim + d,
        params.qkv + row * params.qkv_stride + static_cast<int64_t>(tile.head) * kHeadDim + d,
        present);
  }
}

/// Q of the warp's rows from where copy_q() brought it, which is `q`'s own memory, rotated here
/// unless that was done before; all but the last kLeft groups of copies have arrived then. All
/// threads call it.
template <int kLeft, typename T, int kHeadDim>
__device__ __forceinline__ void take_q(const AttentionParams& params, const Tile<T, kHeadDim>& tile,
                                       int first_row, SharedQ<T, kHeadDim>& q) {
  const auto* const copied = reinterpret_cast<const float*>(&q);
  static_assert(sizeof(q) == kRows * kHeadDim * sizeof(float));
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
  wait_for_copies<kLeft>();
  __syncwarp();
  float4 low[kCount];
  float4 high[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float* const from = copied + line_of(i) * kHeadDim + d;
    low[i] = *reinterpret_cast<const float4*>(from);
    high[i] = *reinterpret_cast<const float4*>(from + kHalf);
  }
  __syncthreads();  // all have read
  const auto store = [&](int line, int column, float4 values) {
    const int at = place<kRows>(line, column);
    uint2 rounded;
    uint2 rest;
    split_pair<T>(values.x, values.y, rounded.x, rest.x);
    split_pair<T>(values.z, values.w, rounded.y, rest.y);
    *reinterpret_cast<uint2*>(q.high + at) = rounded;
    *reinterpret_cast<uint2*>(q.low + at) = rest;
  };
  const auto rotate = [](float& x, float& y, float cos, float sin) {
    const float2 rotated = RowRotation{cos, sin}.of(make_float2(x, y));
    x = rotated.x;
    y = rotated.y;
  };
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (params.rope.cos != nullptr) {
      rotate(low[i].x, high[i].x, cos[i].x, sin[i].x);
      rotate(low[i].y, high[i].y, cos[i].y, sin[i].y);
      rotate(low[i].z, high[i].z, cos[i].z, sin[i].z);
      rotate(low[i].w, high[i].w, cos[i].w, sin[i].w);
    }
    store(line_of(i), d, low[i]);
    store(line_of(i), d + kHalf, high[i]);
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

/// Turns scores into weights, against the largest score so far, after what that changes in the
/// sums.
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
    for_scores(
        [&](int n, int i) { normal &= (scores[n][i] >= kExpNormalLowest) | mask.hides(n, i); });
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
    const float (&from)[4] = weights[2 * step + i / 2];
    split_pair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1], p.high.words[i], p.low.words[i]);
  }
  return p;
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
      const float (&from)[4] = sums.weighted[n];
      *reinterpret_cast<unsigned*>(out + 8 * n) =
          packed(round_to<T>(__fdiv_rn(from[2 * upper], sums.sum[2 * upper])),
                 round_to<T>(__fdiv_rn(from[2 * upper + 1], sums.sum[2 * upper])));
    }
  }
}

}  // namespace headrace::cuda::tile_matrix
