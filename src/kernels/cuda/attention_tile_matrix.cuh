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

  /// Where the KV block is that has a step, if one has all of it.
  __device__ __forceinline__ int64_t block_of_step(int begin) const {
    return one_block() && begin < context ? cache.block_at(begin) : 0;
  }

  /// Begins to copy K of positions [begin, begin + kStep), whose block_of_step() is given; zeros
  /// for those that no row sees.
  __device__ __forceinline__ void copy_k(int begin, int64_t block, T* to) const {
    constexpr int kVectors = kStep / kVector;
    constexpr int kLines = kThreads / kVectors;  // at once
    static_assert(kLines % 8 == 0);              // so that they are swizzled alike
    const int line = static_cast<int>(threadIdx.x) / kVectors;
    const int column = static_cast<int>(threadIdx.x) % kVectors * kVector;
    const int seen = context - begin;
    T* const first = to + place<kHeadDim>(line, column);
    const T* from = one_block() ? cache.k + block + cache.in_block(begin + column)
                                : cache.k_at(column < seen ? begin + column : begin);
    from += cache.k_dim(line);
#pragma unroll
    for (int i = 0; i < kHeadDim / kLines; ++i) {
      copy_vector(first + i * kLines * kLine, from, column < seen);
      from += cache.k_dim(kLines);
    }
  }
  /// V, likewise.
  __device__ __forceinline__ void copy_v(int begin, int64_t block, T* to) const {
    constexpr int kVectors = kHeadDim / kVector;
    constexpr int kLines = kThreads / kVectors;
    static_assert(kLines % 8 == 0);
    const int line = static_cast<int>(threadIdx.x) / kVectors;
    const int column = static_cast<int>(threadIdx.x) % kVectors * kVector;
    const int left = context - begin - line;
    T* const first = to + place<kStep>(line, column);
    if (one_block()) {
      const T* const from = cache.v + block + (cache.in_block(begin) + line) * kHeadDim + column;
#pragma unroll
      for (int i = 0; i < kStep; i += kLines) {
        copy_vector(first + i * kLine, from + i * kHeadDim, i < left);
      }
      return;
    }
#pragma unroll 1
    for (int i = 0; i < kStep; i += kLines) {
      const T* const from = cache.v_at(i < left ? begin + line + i : begin) + column;
      copy_vector(first + i * kLine, from, i < left);
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
  constexpr int kLines = 32 / kVectors;  // at once
  static_assert(32 % kVectors == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = first_row + lane / kVectors;
  const int column = lane % kVectors * 4;
  const float* const tile_rows = params.qkv + tile.rows.row_begin * params.qkv_stride +
                                 static_cast<int64_t>(tile.head) * kHeadDim + column;
  const float* from = tile_rows + line * params.qkv_stride;
#pragma unroll
  for (int i = 0; i < kWarpRows; i += kLines) {
    const bool present = line + i < tile.rows.rows;
    copy_vector(to + (line + i) * kHeadDim + column, present ? from : tile_rows, present);
    from += kLines * params.qkv_stride;
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
  if (params.rope.cos != nullptr) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      rotate(low[i].x, high[i].x, cos[i].x, sin[i].x);
      rotate(low[i].y, high[i].y, cos[i].y, sin[i].y);
      rotate(low[i].z, high[i].z, cos[i].z, sin[i].z);
      rotate(low[i].w, high[i].w, cos[i].w, sin[i].w);
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
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

/// What the rows' sums of weighted V come to, in their place.
template <int kTiles>
__device__ __forceinline__ void divide_by_weights(RunningSums<kTiles>& sums) {
  bool all_divisible = divisible(sums.sum[0]) & divisible(sums.sum[2]);
  float least = kDivisibleHighest;
  float most = kDivisibleLowest;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      least = fminf(least, fabsf(sums.weighted[n][i]));
      most = fmaxf(most, fabsf(sums.weighted[n][i]));
      all_divisible &= sums.weighted[n][i] == sums.weighted[n][i];
    }
  }
  all_divisible &= divisible(least) & divisible(most);
  if (__all_sync(0xffffffffu, all_divisible)) {
    const Divisor divisors[2] = {Divisor(sums.sum[0]), Divisor(sums.sum[2])};
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums.weighted[n][i] = divisors[i / 2].quotient(sums.weighted[n][i]);
      }
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sums.weighted[n][i] = __fdiv_rn(sums.weighted[n][i], sums.sum[i / 2 * 2]);
    }
  }
}

template <typename T, int kHeadDim>
__device__ __forceinline__ void write_rows(const AttentionParams& params,
                                           const Tile<T, kHeadDim>& tile, int first_row,
                                           RunningSums<kHeadDim / 8>& sums) {
  divide_by_weights(sums);
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
      *reinterpret_cast<unsigned*>(out + 8 * n) =
          rounded_pair<T>(sums.weighted[n][2 * upper], sums.weighted[n][2 * upper + 1]);
    }
  }
}

}  // namespace headrace::cuda::tile_matrix
