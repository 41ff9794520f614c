#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_rotation.cuh"

namespace headrace::cuda {
namespace {

constexpr int kTileRows = 32;  // rows of a block, so that K is stored along positions
constexpr int kTileDims = 32;
constexpr int kThreadRows = 8;  // a block is [kThreadRows, kTileDims] threads

struct Place {
  int64_t block;  // its first element
  int offset;
};

__device__ __forceinline__ Place place_of(const RopeParams& params, const RowTile& tile, int row) {
  const int position = tile.position + row;
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  return {.block = params.blocks[tile.table_begin + position / block_tokens] *
                   params.kv.block_stride,
          .offset = position % block_tokens};
}

/// V of rows [begin, end) of the tile, kCount elements of a row at a time.
template <typename T, int kCount>
__device__ void store_v(const RopeParams& params, const RowTile& tile, const float* heads,
                        int64_t width, int kv_head, int begin, int end) {
  const int head_dim = static_cast<int>(params.kv.head_dim);
  for (int d = static_cast<int>(threadIdx.x) * kCount; d < head_dim; d += kTileDims * kCount) {
#pragma unroll
    for (int i = 0; i < kTileRows / kThreadRows; ++i) {
      const int row = begin + static_cast<int>(threadIdx.y) + i * kThreadRows;
      if (row >= end) break;
      const Place place = place_of(params, tile, row);
      T* const v = reinterpret_cast<T*>(params.kv.v) + place.block +
                   (kv_head * params.kv.block_tokens + place.offset) * head_dim;
      const auto x = *reinterpret_cast<const Packed<float, kCount>*>(
          heads + (tile.row_begin + row) * width + d);
      Packed<T, kCount> rounded;
#pragma unroll
      for (int e = 0; e < kCount; ++e) rounded.values[e] = round_to<T>(x.values[e]);
      *reinterpret_cast<Packed<T, kCount>*>(v + d) = rounded;
    }
  }
}

/// A block rotates or stores one head of up to kTileRows rows; heads are numbered as they lie in
/// qkv: Q, K, V. Rotated K goes through shared memory, as the cache holds it position by position.
template <typename T>
__global__ void __launch_bounds__(kThreadRows* kTileDims)
    rope_and_store_kernel(RopeParams params) {
  allow_next();
  wait_for_previous();
  __shared__ T turned[2][kTileDims][kTileRows + 2];
  const RowTile tile = params.tiles[blockIdx.z];
  const int begin = static_cast<int>(blockIdx.x) * kTileRows;
  if (begin >= tile.rows) return;
  const int end = min(begin + kTileRows, tile.rows);
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int half = head_dim / 2;
  const int kv_heads = static_cast<int>(params.kv.kv_heads);
  const int heads = static_cast<int>(params.heads);
  const int head = static_cast<int>(blockIdx.y) + (params.keep_q ? heads : 0);
  const int64_t width = static_cast<int64_t>(heads + 2 * kv_heads) * head_dim;
  float* const x = params.qkv + static_cast<int64_t>(head) * head_dim;
  if (head >= heads + kv_heads) {
    const int kv_head = head - heads - kv_heads;
    if (head_dim % 4 == 0) return store_v<T, 4>(params, tile, x, width, kv_head, begin, end);
    return store_v<T, 1>(params, tile, x, width, kv_head, begin, end);
  }
  const int column = static_cast<int>(threadIdx.x);
  for (int first = 0; first < half; first += kTileDims) {
    const int d = first + column;
#pragma unroll
    for (int i = 0; i < kTileRows / kThreadRows; ++i) {
      const int row = begin + static_cast<int>(threadIdx.y) + i * kThreadRows;
      if (d >= half || row >= end) break;
      const int64_t at = tile.row_begin + row;
      float* const pair = x + at * width + d;
      const RowRotation rotation = {.cos = params.cos[at * half + d],
                                    .sin = params.sin[at * half + d]};
      const float2 rotated = rotation.of(make_float2(pair[0], pair[half]));
      if (head < heads) {
        pair[0] = rotated.x;
        pair[half] = rotated.y;
        continue;
      }
      turned[0][column][row - begin] = round_to<T>(rotated.x);
      turned[1][column][row - begin] = round_to<T>(rotated.y);
    }
    if (head < heads) continue;
    __syncthreads();
    const int row = begin + column;  // now threads lie along positions
    if (row < end) {
      const Place place = place_of(params, tile, row);
      const int64_t block_tokens = params.kv.block_tokens;
      T* const k = reinterpret_cast<T*>(params.kv.k) + place.block +
                   (head - heads) * head_dim * block_tokens + place.offset;
      for (int i = static_cast<int>(threadIdx.y); i < min(kTileDims, half - first);
           i += kThreadRows) {
        k[(first + i) * block_tokens] = turned[0][i][column];
        k[(first + i + half) * block_tokens] = turned[1][i][column];
      }
    }
    __syncthreads();
  }
}

/// Tiles of one row: a thread per pair of elements, rows of blocks along y.
template <typename T>
__global__ void __launch_bounds__(kThreadRows* kTileDims) rope_one_row_kernel(RopeParams params) {
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
  const RowRotation rotation = {.cos = params.cos[at * half + d],
                                .sin = params.sin[at * half + d]};
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
    constexpr int kThreads = kThreadRows * kTileDims;
    const int64_t pairs = all_heads * (params.kv.head_dim / 2);
    const dim3 grid(static_cast<unsigned>((pairs + kThreads - 1) / kThreads), tiles);
    HR_DISPATCH_DTYPE(params.kv.dtype, T,
                      launch(queue, rope_one_row_kernel<T>, grid, dim3(kThreads), 0, params))
    return;
  }
  const dim3 grid(static_cast<unsigned>((params.most_rows + kTileRows - 1) / kTileRows),
                  static_cast<unsigned>(all_heads - (params.keep_q ? params.heads : 0)), tiles);
  const dim3 block(kTileDims, kThreadRows);
  HR_DISPATCH_DTYPE(params.kv.dtype, T,
                    launch(queue, rope_and_store_kernel<T>, grid, block, 0, params))
}

}  // namespace headrace::cuda
