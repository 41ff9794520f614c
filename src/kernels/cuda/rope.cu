#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_rotation.cuh"

namespace headrace::cuda {
namespace {

constexpr int kTileRows = 64;  // rows of a block
constexpr int kWarp = 32;
constexpr int kWarps = 8;  // a block is [kWarps, kWarp] threads
constexpr int kThreads = kWarps * kWarp;
constexpr int kBatch = 4;        // of a thread's rows of V that it reads at once
constexpr int kTurnedBatch = 2;  // and of those that are rotated
constexpr int kHeadsOfBlock = 4;
constexpr int kMostCount = 4;       // elements of a row that a thread takes at once
constexpr int kTurnedVectors = 16;  // of kCount pairs: a row's that are rotated at once

struct Place {
  int64_t block;  // its first element
  int offset;
};

__device__ __forceinline__ Place place_of(const RopeParams& params, const RowTile& tile, int row) {
  const int position = tile.position + row;
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  return {
      .block = params.blocks[tile.table_begin + position / block_tokens] * params.kv.block_stride,
      .offset = position % block_tokens};
}

/// One head of rows [begin, end) of a sequence.
struct HeadRows {
  RowTile tile;
  int begin;
  int end;
  float* x;       // of token row 0 of the pass
  int64_t width;  // of a row

  template <int kCount>
  __device__ __forceinline__ Packed<float, kCount>& at(int row, int d) const {
    return *reinterpret_cast<Packed<float, kCount>*>(x + (tile.row_begin + row) * width + d);
  }
};

/// V, kCount elements of a row at a time.
template <typename T, int kCount>
__device__ __forceinline__ void store_v(const RopeParams& params, const HeadRows& rows,
                                        int kv_head) {
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int first = rows.begin + static_cast<int>(threadIdx.y);
  for (int d = static_cast<int>(threadIdx.x) * kCount; d < head_dim; d += kWarp * kCount) {
#pragma unroll 1
    for (int batch = 0; batch < kTileRows; batch += kBatch * kWarps) {
      Packed<float, kCount> x[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int row = first + batch + i * kWarps;
        if (row < rows.end) x[i] = rows.at<kCount>(row, d);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int row = first + batch + i * kWarps;
        if (row >= rows.end) break;
        const Place place = place_of(params, rows.tile, row);
        Packed<T, kCount> rounded;
#pragma unroll
        for (int e = 0; e < kCount; ++e) rounded.values[e] = round_to<T>(x[i].values[e]);
        T* const v = reinterpret_cast<T*>(params.kv.v) + place.block +
                     (kv_head * params.kv.block_tokens + place.offset) * head_dim;
        *reinterpret_cast<Packed<T, kCount>*>(v + d) = rounded;
      }
    }
  }
}

/// Rotated K of some dimensions, as the cache holds it: position by position. Lines end so that
/// threads that read along positions meet different banks.
template <typename T, int kCount>
struct Turned {
  static constexpr int kDims = kTurnedVectors * kCount;
  T of_half[2][kDims][kTileRows + 2];
};

/// Stores K of dimensions [first, first + Turned::kDims) of both halves of the head.
template <typename T, int kCount>
__device__ __forceinline__ void store_k(const RopeParams& params, const HeadRows& rows, int kv_head,
                                        int first, const Turned<T, kCount>& turned) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  constexpr int kVectors = kTileRows / kVector;  // of a dimension
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  const int half = static_cast<int>(params.kv.head_dim) / 2;
  T* const k = reinterpret_cast<T*>(params.kv.k) + kv_head * params.kv.head_dim * block_tokens;
  const int thread = static_cast<int>(threadIdx.y * kWarp + threadIdx.x);
  const int row = thread % kVectors * kVector;
  const int left = rows.end - rows.begin - row;
  if (left <= 0) return;
  const Place place = place_of(params, rows.tile, rows.begin + row);
  const bool whole = left >= kVector && (place.offset | block_tokens) % kVector == 0;
  for (int d = thread / kVectors; d < Turned<T, kCount>::kDims; d += kThreads / kVectors) {
    if (first + d >= half) return;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int64_t line = static_cast<int64_t>(first + d + upper * half) * block_tokens;
      const T* const from = &turned.of_half[upper][d][row];
      if (whole) {
        Packed<T, kVector> vector;
#pragma unroll
        for (int i = 0; i < kVector; ++i) vector.values[i] = from[i];
        *reinterpret_cast<Packed<T, kVector>*>(k + place.block + line + place.offset) = vector;
        continue;
      }
      for (int i = 0; i < min(left, kVector); ++i) {
        const Place own = place_of(params, rows.tile, rows.begin + row + i);
        k[own.block + line + own.offset] = from[i];
      }
    }
  }
}

/// Rotates a head where it lies, or, if it is one of K (kv_head >= 0), into the cache.
template <typename T, int kCount>
__device__ __forceinline__ void rotate(const RopeParams& params, const HeadRows& rows,
                                       int kv_head) {
  __shared__ Turned<T, kCount> turned;
  constexpr int kLines = kThreads / kTurnedVectors;  // rows at once
  static_assert(kTileRows % (kTurnedBatch * kLines) == 0);
  const int half = static_cast<int>(params.kv.head_dim) / 2;
  const int thread = static_cast<int>(threadIdx.y * kWarp + threadIdx.x);
  const int column = thread % kTurnedVectors * kCount;
  for (int first = 0; first < half; first += Turned<T, kCount>::kDims) {
    const int d = first + column;
#pragma unroll 1
    for (int batch = 0; batch < kTileRows; batch += kTurnedBatch * kLines) {
      const int line = batch + thread / kTurnedVectors;
      Packed<float, kCount> low[kTurnedBatch];
      Packed<float, kCount> high[kTurnedBatch];
      Packed<float, kCount> cos[kTurnedBatch];
      Packed<float, kCount> sin[kTurnedBatch];
#pragma unroll
      for (int i = 0; i < kTurnedBatch; ++i) {
        const int row = rows.begin + line + i * kLines;
        if (d >= half || row >= rows.end) break;
        low[i] = rows.at<kCount>(row, d);
        high[i] = rows.at<kCount>(row, d + half);
        const int64_t at = static_cast<int64_t>(rows.tile.row_begin + row) * half + d;
        cos[i] = *reinterpret_cast<const Packed<float, kCount>*>(params.cos + at);
        sin[i] = *reinterpret_cast<const Packed<float, kCount>*>(params.sin + at);
      }
#pragma unroll
      for (int i = 0; i < kTurnedBatch; ++i) {
        const int row = rows.begin + line + i * kLines;
        if (d >= half || row >= rows.end) break;
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          const RowRotation rotation = {.cos = cos[i].values[e], .sin = sin[i].values[e]};
          const float2 rotated = rotation.of(make_float2(low[i].values[e], high[i].values[e]));
          low[i].values[e] = rotated.x;
          high[i].values[e] = rotated.y;
          if (kv_head < 0) continue;
          turned.of_half[0][column + e][line + i * kLines] = round_to<T>(rotated.x);
          turned.of_half[1][column + e][line + i * kLines] = round_to<T>(rotated.y);
        }
        if (kv_head >= 0) continue;
        rows.at<kCount>(row, d) = low[i];
        rows.at<kCount>(row, d + half) = high[i];
      }
    }
    if (kv_head < 0) continue;
    __syncthreads();
    store_k(params, rows, kv_head, first, turned);
    __syncthreads();
  }
}

/// A block rotates or stores some heads of up to kTileRows rows; heads are numbered as they lie in
/// qkv: Q, K, V. The heads after its first find
/// cosines and sines in L1.
template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads, 3) rope_and_store_kernel(RopeParams params) {
  allow_next();
  wait_for_previous();
  const RowTile tile = params.tiles[blockIdx.z];
  const int begin = static_cast<int>(blockIdx.y) * kTileRows;
  if (begin >= tile.rows) return;
  const int kv_heads = static_cast<int>(params.kv.kv_heads);
  const int heads = static_cast<int>(params.heads);
  const int first = static_cast<int>(blockIdx.x) * kHeadsOfBlock + (params.keep_q ? heads : 0);
  const int last = min(first + kHeadsOfBlock, heads + 2 * kv_heads);
  HeadRows rows = {.tile = tile,
                   .begin = begin,
                   .end = min(begin + kTileRows, tile.rows),
                   .x = nullptr,
                   .width = (heads + 2 * kv_heads) * params.kv.head_dim};
#pragma unroll 1
  for (int head = first; head < last; ++head) {
    rows.x = params.qkv + head * params.kv.head_dim;
    if (head < heads + kv_heads) {
      rotate<T, kCount>(params, rows, head < heads ? -1 : head - heads);
    } else {
      store_v<T, kCount>(params, rows, head - heads - kv_heads);
    }
  }
}

/// Tiles of one row: a thread per pair of elements, rows of blocks along y.
template <typename T>
__global__ void __launch_bounds__(kThreads) rope_one_row_kernel(RopeParams params) {
  allow_next();
  const RowTile tile = params.tiles[blockIdx.y];
  const Place place = place_of(params, tile, 0);
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int half = head_dim / 2;
  const int kv_heads = static_cast<int>(params.kv.kv_heads);
  const int heads = static_cast<int>(params.heads);
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int head = index / half;
  const int d = index % half;
  const bool present = head < heads + 2 * kv_heads;
  const int64_t at = tile.row_begin;
  const RowRotation rotation = {.cos = params.cos[at * half + d], .sin = params.sin[at * half + d]};
  wait_for_previous();
  if (!present) return;
  float* const pair = params.qkv + (at * (heads + 2 * kv_heads) + head) * head_dim + d;
  const float a = pair[0];
  const float b = pair[half];
  if (head >= heads + kv_heads) {
    const int64_t row = (head - heads - kv_heads) * params.kv.block_tokens + place.offset;
    T* const v = reinterpret_cast<T*>(params.kv.v) + place.block + row * head_dim + d;
    v[0] = round_to<T>(a);
    v[half] = round_to<T>(b);
    return;
  }
  const float2 rotated = rotation.of(make_float2(a, b));
  if (head < heads) {
    pair[0] = rotated.x;
    pair[half] = rotated.y;
    return;
  }
  const int64_t block_tokens = params.kv.block_tokens;
  T* const k = reinterpret_cast<T*>(params.kv.k) + place.block +
               ((head - heads) * head_dim + d) * block_tokens + place.offset;
  k[0] = round_to<T>(rotated.x);
  k[half * block_tokens] = round_to<T>(rotated.y);
}

}  // namespace

void rope_and_store(const RopeParams& params, Queue& queue) {
  const int64_t all_heads = params.heads + 2 * params.kv.kv_heads;
  const auto tiles = static_cast<unsigned>(params.tile_count);
  if (params.most_rows == 1) {
    const int64_t pairs = all_heads * (params.kv.head_dim / 2);
    const dim3 grid(static_cast<unsigned>((pairs + kThreads - 1) / kThreads), tiles);
    HR_DISPATCH_DTYPE(params.kv.dtype, T,
                      launch(queue, rope_one_row_kernel<T>, grid, dim3(kThreads), 0, params))
    return;
  }
  const int64_t block_heads = all_heads - (params.keep_q ? params.heads : 0);
  const dim3 grid(static_cast<unsigned>((block_heads + kHeadsOfBlock - 1) / kHeadsOfBlock),
                  static_cast<unsigned>((params.most_rows + kTileRows - 1) / kTileRows), tiles);
  const dim3 block(kWarp, kWarps);
  const bool whole = params.kv.head_dim % (2 * kMostCount) == 0;
  HR_DISPATCH_DTYPE(params.kv.dtype, T, {
    const auto kernel = whole ? rope_and_store_kernel<T, kMostCount> : rope_and_store_kernel<T, 1>;
    launch(queue, kernel, grid, block, 0, params);
  })
}

}  // namespace headrace::cuda
