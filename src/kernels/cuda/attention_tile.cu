#include "kernels/cuda/attention.cuh"

namespace headrace::cuda {
namespace {

// A block attends for a tile of 64 rows and one head; a warp owns eight of the rows, and all
// positions and dimensions of them, so that softmax and both products stay within the warp. K and V
// pass through shared memory in chunks that all warps use.
constexpr int kRows = kPrefillTileRows;
constexpr int kWarpRows = 8;
constexpr int kTileThreads = kRows / kWarpRows * 32;
constexpr int kColumns = 128;     // positions scored at a time
constexpr int kLaneScores = kColumns / 32;
constexpr int kChunkDims = 64;    // of K in shared memory at a time
constexpr int kChunkTokens = 64;  // of V in shared memory at a time
constexpr int kTokensAtOnce = 4;  // whose p a lane reads with one load
static_assert(kLaneScores == 4 && kSplit % kColumns == 0);

template <typename T, int kHeadDim>
struct TileShared {
  float q[kHeadDim][kRows];  // rows swizzled: q_row()
  float p[kRows][kSplit];
  T kv[kChunkDims * kColumns];
};

/// Where a group of four rows lies in its line of q, so that lines written side by side meet few
/// common banks.
__device__ __forceinline__ int q_row(int d, int row) { return row ^ ((d & 7) << 2); }

/// kCount consecutive elements of shared memory, aligned as a whole.
template <int kCount, typename T>
__device__ __forceinline__ void load_widened(const T* from, float (&out)[kCount]) {
  const auto packed = *reinterpret_cast<const Packed<T, kCount>*>(from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = to_float(packed.values[i]);
}

/// One tile, head and the positions that its last row sees.
struct Tile {
  RowTile rows;
  int head;
  int64_t kv_head;
  const int32_t* table;
  int context;
};

template <typename T, int kHeadDim>
__device__ void load_q(const AttentionParams& params, const Tile& tile,
                       TileShared<T, kHeadDim>& shared) {
  for (int i = threadIdx.x; i < kRows * kHeadDim; i += kTileThreads) {
    const int row = i / kHeadDim;
    const int d = i % kHeadDim;
    const float* q = params.qkv + (tile.rows.row_begin + row) * params.qkv_stride +
                     static_cast<int64_t>(tile.head) * kHeadDim;
    shared.q[d][q_row(d, row)] = row < tile.rows.rows ? q[d] : 0.0f;
  }
}

/// K of dimensions [dim, dim + kChunkDims) and positions [begin, begin + kColumns), as
/// kv[dimension][position]. Positions that no row of the tile sees are left out.
template <typename T, int kHeadDim>
__device__ void load_k(const AttentionParams& params, const Tile& tile, int begin, int dim, T* kv) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  const T* const k = reinterpret_cast<const T*>(params.kv.k);
  const auto place = [&](int d, int position) {
    const int64_t block = tile.table[position / block_tokens] * params.kv.block_stride;
    return k + block + (tile.kv_head * kHeadDim + dim + d) * block_tokens +
           position % block_tokens;
  };
  if (block_tokens % kVector == 0) {
    for (int i = threadIdx.x; i < kChunkDims * (kColumns / kVector); i += kTileThreads) {
      const int d = i / (kColumns / kVector);
      const int column = i % (kColumns / kVector) * kVector;
      if (begin + column >= tile.context) continue;
      *reinterpret_cast<uint4*>(kv + d * kColumns + column) =
          *reinterpret_cast<const uint4*>(place(d, begin + column));
    }
    return;
  }
  for (int i = threadIdx.x; i < kChunkDims * kColumns; i += kTileThreads) {
    const int column = i % kColumns;
    if (begin + column < tile.context) kv[i] = *place(i / kColumns, begin + column);
  }
}

/// V of positions [begin, begin + kChunkTokens), as kv[position][dimension].
template <typename T, int kHeadDim>
__device__ void load_v(const AttentionParams& params, const Tile& tile, int begin, T* kv) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  constexpr int kRowVectors = kHeadDim / kVector;
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  for (int i = threadIdx.x; i < kChunkTokens * kRowVectors; i += kTileThreads) {
    const int position = begin + i / kRowVectors;
    if (position >= tile.context) continue;
    const int64_t block = tile.table[position / block_tokens] * params.kv.block_stride;
    const T* v = reinterpret_cast<const T*>(params.kv.v) + block +
                 (tile.kv_head * block_tokens + position % block_tokens) * kHeadDim;
    reinterpret_cast<uint4*>(kv)[i] = reinterpret_cast<const uint4*>(v)[i % kRowVectors];
  }
}

/// Scores of the tile's rows at positions [begin, begin + count), into p.
template <typename T, int kHeadDim>
__device__ void score(const AttentionParams& params, const Tile& tile, int begin, int count,
                      TileShared<T, kHeadDim>& shared) {
  const int lane = threadIdx.x % 32;
  const int first_row = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  for (int column = 0; column < count; column += kColumns) {
    float dots[kWarpRows][kLaneScores] = {};
    for (int dim = 0; dim < kHeadDim; dim += kChunkDims) {
      __syncthreads();
      load_k<T, kHeadDim>(params, tile, begin + column, dim, shared.kv);
      __syncthreads();
#pragma unroll 4
      for (int d = 0; d < kChunkDims; ++d) {
        float k[kLaneScores];
        load_widened<kLaneScores>(shared.kv + d * kColumns + lane * kLaneScores, k);
        const float* line = shared.q[dim + d];
        const float4 low = *reinterpret_cast<const float4*>(line + q_row(d, first_row));
        const float4 high = *reinterpret_cast<const float4*>(line + q_row(d, first_row + 4));
        const float q[kWarpRows] = {low.x,  low.y,  low.z,  low.w,
                                    high.x, high.y, high.z, high.w};
#pragma unroll
        for (int r = 0; r < kWarpRows; ++r) {
#pragma unroll
          for (int i = 0; i < kLaneScores; ++i) dots[r][i] = __fmaf_rn(q[r], k[i], dots[r][i]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      *reinterpret_cast<float4*>(&shared.p[first_row + r][column + lane * kLaneScores]) =
          make_float4(__fmul_rn(dots[r][0], params.scale), __fmul_rn(dots[r][1], params.scale),
                      __fmul_rn(dots[r][2], params.scale), __fmul_rn(dots[r][3], params.scale));
    }
  }
  __syncwarp();
}

/// Turns the warp's scores of a row into probabilities over its first `visible` positions, the rest
/// into 0; returns their maximum.
__device__ float softmax(float* row, int visible) {
  constexpr int kLaneValues = kSplit / 32;
  const int lane = threadIdx.x % 32;
  float s[kLaneValues];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    const int t = lane + 32 * i;
    s[i] = t < visible ? row[t] : -INFINITY;
    most = larger(most, s[i]);
  }
#pragma unroll
  for (int bit = 16; bit > 0; bit /= 2) {
    most = larger(most, __shfl_xor_sync(0xffffffffu, most, bit));
  }
#pragma unroll
  for (int i = 0; i < kLaneValues; ++i) {
    const int t = lane + 32 * i;
    row[t] = t < visible ? canonical_exp(__fsub_rn(s[i], most)) : 0.0f;
  }
  return most;
}

/// Sums of the probabilities of the warp's rows. What is not visible is +0, which adds nothing to
/// sums that begin at +0.
__device__ void sum_rows(const float (*rows)[kSplit], float (&sums)[kWarpRows]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int pair = 0; pair < kWarpRows / 2; ++pair) {
    const float* row = rows[2 * pair + lane / kSumLanes];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kSplit / kSumLanes; ++i) {
      sum = __fadd_rn(sum, row[lane % kSumLanes + i * kSumLanes]);
    }
    sum = tree_sum<kSumLanes>(sum);
    sums[2 * pair] = __shfl_sync(0xffffffffu, sum, 0);
    sums[2 * pair + 1] = __shfl_sync(0xffffffffu, sum, kSumLanes);
  }
}

/// weighted += p V over positions [begin, begin + count) of the split at `split`; row r of the warp
/// sees the first visible + r of them.
template <typename T, int kHeadDim>
__device__ void weigh(const AttentionParams& params, const Tile& tile, int split, int count,
                      int visible, TileShared<T, kHeadDim>& shared,
                      float (&weighted)[kWarpRows][kHeadDim / 32]) {
  constexpr int kLaneDims = kHeadDim / 32;
  const int lane = threadIdx.x % 32;
  const float(*p)[kSplit] = shared.p + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  for (int begin = 0; begin < count; begin += kChunkTokens) {
    __syncthreads();
    load_v<T, kHeadDim>(params, tile, split + begin, shared.kv);
    __syncthreads();
    const T* const v_lane = shared.kv + lane * kLaneDims;
    const int whole = min(max(visible - begin, 0), kChunkTokens) / kTokensAtOnce * kTokensAtOnce;
#pragma unroll 2
    for (int t = 0; t < whole; t += kTokensAtOnce) {
      float v[kTokensAtOnce][kLaneDims];
#pragma unroll
      for (int u = 0; u < kTokensAtOnce; ++u) {
        load_widened<kLaneDims>(v_lane + (t + u) * kHeadDim, v[u]);
      }
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) {
        const float4 four = *reinterpret_cast<const float4*>(&p[r][begin + t]);
        const float weights[kTokensAtOnce] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int u = 0; u < kTokensAtOnce; ++u) {
#pragma unroll
          for (int i = 0; i < kLaneDims; ++i) {
            weighted[r][i] = __fmaf_rn(weights[u], v[u][i], weighted[r][i]);
          }
        }
      }
    }
    // Where rows end at different positions, what a row does not see is not added at all.
    const int end = min(min(visible + kWarpRows - 1, count) - begin, kChunkTokens);
    for (int t = whole; t < end; ++t) {
      float v[kLaneDims];
      load_widened<kLaneDims>(v_lane + t * kHeadDim, v);
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) {
        if (begin + t >= visible + r) continue;
        const float weight = p[r][begin + t];
#pragma unroll
        for (int i = 0; i < kLaneDims; ++i) {
          weighted[r][i] = __fmaf_rn(weight, v[i], weighted[r][i]);
        }
      }
    }
  }
}

template <typename T, int kHeadDim>
__device__ void write_row(const AttentionParams& params, int64_t row, int head,
                          const Folded<kHeadDim / 32>& folded) {
  constexpr int kLaneDims = kHeadDim / 32;
  const int64_t at =
      (row * params.heads + head) * kHeadDim + static_cast<int>(threadIdx.x) % 32 * kLaneDims;
#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    const float value = __fdiv_rn(folded.weighted[i], folded.sum);
    HR_DISPATCH_DTYPE(params.out_dtype, Out,
                      reinterpret_cast<Out*>(params.out)[at + i] = round_to<Out>(value))
  }
}

template <typename T, int kHeadDim>
__global__ void __launch_bounds__(kTileThreads, 2) attention_tile_kernel(AttentionParams params) {
  constexpr int kLaneDims = kHeadDim / 32;
  extern __shared__ uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<TileShared<T, kHeadDim>*>(shared_vectors);
  allow_next();
  wait_for_previous();
  const RowTile rows = params.tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y);
  const Tile tile = {.rows = rows,
                     .head = head,
                     .kv_head = head / (params.heads / params.kv.kv_heads),
                     .table = params.blocks + rows.table_begin,
                     .context = rows.position + rows.rows};
  const int first_row = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  load_q<T, kHeadDim>(params, tile, shared);
  Folded<kLaneDims> folded[kWarpRows];
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) folded[r].clear();
  for (int split = 0; split < tile.context; split += kSplit) {
    const int count = min(kSplit, tile.context - split);
    // Positions of the split that the warp's first row sees; each further row sees one more.
    const int visible = rows.position + first_row + 1 - split;
    score<T, kHeadDim>(params, tile, split, count, shared);
    float most[kWarpRows];
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      most[r] = softmax(shared.p[first_row + r], min(visible + r, count));
    }
    __syncwarp();
    float sums[kWarpRows];
    sum_rows(shared.p + first_row, sums);
    float weighted[kWarpRows][kLaneDims] = {};
    weigh<T, kHeadDim>(params, tile, split, count, visible, shared, weighted);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      if (visible + r > 0) folded[r].fold(most[r], sums[r], weighted[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    if (first_row + r >= rows.rows) continue;
    write_row<T, kHeadDim>(params, rows.row_begin + first_row + r, head, folded[r]);
  }
}

template <typename T, int kHeadDim>
bool launch_tiles(const AttentionParams& params, Queue& queue) {
  return launch_attention_tiles<attention_tile_kernel<T, kHeadDim>>(
      kTileThreads, sizeof(TileShared<T, kHeadDim>), params, queue);
}

}  // namespace

bool attention_tiles(const AttentionParams& params, Queue& queue) {
  HR_DISPATCH_DTYPE(params.kv.dtype, T, {
    if (params.kv.head_dim == 128) return launch_tiles<T, 128>(params, queue);
    if (params.kv.head_dim == 64) return launch_tiles<T, 64>(params, queue);
  })
  return false;
}

}  // namespace headrace::cuda
