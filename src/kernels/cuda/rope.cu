#include <algorithm>

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_rotation.cuh"

namespace headrace::cuda {
namespace {

constexpr int kTileRows = 64;  // rows of a block
constexpr int kThreads = 256;
constexpr int kBlocksOfMultiprocessor = 3;
constexpr int kMostHeadsOfBlock = 8;
constexpr int kSliceDims = 64;   // of each half of a head, that a block takes at once
constexpr int kFloatVector = 4;  // floats that are copied at once, if rows allow

/// The compiler learns its range from the remainder.
__device__ __forceinline__ int thread_of_block() {
  return static_cast<int>(threadIdx.x % kThreads);
}

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

/// What a block takes of each of its heads: up to kTileRows rows of a sequence, dimensions
/// [d, d + dims) of both halves.
struct Part {
  int64_t begin;  // token row of the pass
  int rows;
  const Place* places;  // of the rows
  int64_t width;        // of a row of qkv
  int d;
  int dims;
};

/// A part of one head in shared memory. Groups of rows lie a vector further apart than they are
/// long, so that threads that read one dimension of every eighth row meet different banks.
struct Slice {
  static constexpr int kGroup = 8;
  static constexpr int kRowFloats = 2 * kSliceDims;
  float values[kTileRows / kGroup * (kGroup * kRowFloats + kFloatVector)];

  static __device__ __forceinline__ constexpr int offset(int row) {
    return row * kRowFloats + row / kGroup * kFloatVector;
  }
  __device__ __forceinline__ float* at(int row, int upper, int d) {
    return values + offset(row) + upper * kSliceDims + d;
  }
};

/// Where a thread begins that takes a slice row by row, kCount dimensions at once.
template <int kCount>
struct InOrder {
  static constexpr int kVectors = kSliceDims / kCount;     // of a half of a row
  static constexpr int kStep = kThreads / (2 * kVectors);  // rows at once
  const int row = thread_of_block() / (2 * kVectors);
  const int upper = thread_of_block() / kVectors % 2;
  const int d = thread_of_block() % kVectors * kCount;
};

/// Begins to copy a part of a head, of which the thread's first vector is at `from`.
template <int kCount>
__device__ __forceinline__ void copy_slice(Slice& to, const Part& part, const float* from) {
  const InOrder<kCount> mine;
  float* const first = to.at(mine.row, mine.upper, mine.d);
  if (mine.d < part.dims) {
#pragma unroll 8
    for (int i = 0; i < kTileRows; i += InOrder<kCount>::kStep) {
      const bool present = mine.row + i < part.rows;
      float* const vector = first + Slice::offset(i);
      if constexpr (kCount == kFloatVector) {
        copy_vector(vector, from, present);
      } else {
        *vector = present ? *from : 0.0f;
      }
      from += InOrder<kCount>::kStep * part.width;
    }
  }
  end_copies_of_stage();
}

/// Calls use(slice, i) for each of `heads` heads while the next one is on its way. The first is on
/// its way already, from `from`; others follow it in rows.
template <int kCount, typename Use>
__device__ __forceinline__ void for_each_head(Slice* slices, const Part& part, const float* from,
                                              int heads, int head_dim, Use use) {
#pragma unroll 1
  for (int i = 0; i < heads; ++i) {
    wait_for_copies<0>();
    __syncthreads();  // the last head's slice is free too
    from += head_dim;
    if (i + 1 < heads) copy_slice<kCount>(slices[(i + 1) % 2], part, from);
    use(slices[i % 2], i);
  }
}

/// Rotates Q where it lies: at x in token row 0.
template <int kCount>
__device__ __forceinline__ void store_q(const RopeParams& params, const Part& part, Slice& slice,
                                        float* x) {
  constexpr int kVectors = kSliceDims / kCount;
  const int64_t half = params.kv.head_dim / 2;
  const int d = thread_of_block() % kVectors * kCount;
  if (d >= part.dims) return;
#pragma unroll 2
  for (int row = thread_of_block() / kVectors; row < part.rows; row += kThreads / kVectors) {
    const int64_t at = (part.begin + row) * half + part.d + d;
    const auto cos = *reinterpret_cast<const Packed<float, kCount>*>(params.cos + at);
    const auto sin = *reinterpret_cast<const Packed<float, kCount>*>(params.sin + at);
    auto low = *reinterpret_cast<const Packed<float, kCount>*>(slice.at(row, 0, d));
    auto high = *reinterpret_cast<const Packed<float, kCount>*>(slice.at(row, 1, d));
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const RowRotation rotation = {.cos = cos.values[e], .sin = sin.values[e]};
      const float2 rotated = rotation.of(make_float2(low.values[e], high.values[e]));
      low.values[e] = rotated.x;
      high.values[e] = rotated.y;
    }
    float* const to = x + (part.begin + row) * part.width + part.d + d;
    *reinterpret_cast<Packed<float, kCount>*>(to) = low;
    *reinterpret_cast<Packed<float, kCount>*>(to + half) = high;
  }
}

template <typename T, int kCount>
__device__ __forceinline__ void store_v(const RopeParams& params, const Part& part, Slice& slice,
                                        int kv_head) {
  const int64_t head_dim = params.kv.head_dim;
  const InOrder<kCount> mine;
  if (mine.d >= part.dims) return;
  T* const v = reinterpret_cast<T*>(params.kv.v) + kv_head * params.kv.block_tokens * head_dim +
               mine.upper * (head_dim / 2) + part.d + mine.d;
#pragma unroll 4
  for (int row = mine.row; row < part.rows; row += InOrder<kCount>::kStep) {
    const auto x =
        *reinterpret_cast<const Packed<float, kCount>*>(slice.at(row, mine.upper, mine.d));
    const Place place = part.places[row];
    *reinterpret_cast<Packed<T, kCount>*>(v + place.block + place.offset * head_dim) =
        rounded<T>(x);
  }
}

/// A thread's share of slices of K: a vector of the cache is kVector rows of a dimension. The
/// rotations are the same for all heads.
template <typename T>
struct Turner {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  static constexpr int kVectors = kTileRows / kVector;  // of a dimension
  static constexpr int kDims = kThreads / kVectors;     // that the threads take at once
  static constexpr int kPasses = kSliceDims / kDims;
  const int row = thread_of_block() % kVectors * kVector;
  const int d = thread_of_block() / kVectors;
  RowRotation rotations[kPasses][kVector];

  __device__ __forceinline__ Turner(const RopeParams& params, const Part& part) {
    const int64_t half = params.kv.head_dim / 2;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      // Past the part others are read in place, unused: no read waits behind a branch.
      const int64_t at = (part.begin + min(row + i, part.rows - 1)) * half + part.d;
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        const int64_t own = at + min(d + pass * kDims, part.dims - 1);
        rotations[pass][i] = {.cos = params.cos[own], .sin = params.sin[own]};
      }
    }
  }

  __device__ __forceinline__ void store_k(const RopeParams& params, const Part& part, Slice& slice,
                                          int kv_head) const {
    const int block_tokens = static_cast<int>(params.kv.block_tokens);
    const int left = part.rows - row;
    if (left <= 0) return;
    const Place place = part.places[row];
    const bool whole = left >= kVector && (place.offset | block_tokens) % kVector == 0;
    T* k = reinterpret_cast<T*>(params.kv.k) +
           (kv_head * params.kv.head_dim + part.d + d) * block_tokens;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass, k += kDims * block_tokens) {
      if (d + pass * kDims >= part.dims) return;
      const float* const x = slice.at(row, 0, d) + pass * kDims;
      Packed<T, kVector> halves[2];
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const float2 rotated = rotations[pass][i].of(
            make_float2(x[Slice::offset(i)], x[Slice::offset(i) + kSliceDims]));
        halves[0].values[i] = round_to<T>(rotated.x);
        halves[1].values[i] = round_to<T>(rotated.y);
      }
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        T* const line = k + upper * (params.kv.head_dim / 2) * block_tokens;
        if (whole) {
          *reinterpret_cast<Packed<T, kVector>*>(line + place.block + place.offset) = halves[upper];
          continue;
        }
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          if (i >= left) break;
          const Place own = part.places[row + i];
          line[own.block + own.offset] = halves[upper].values[i];
        }
      }
    }
  }
};

/// A block rotates or stores up to heads_of_block heads of up to kTileRows rows. The first blocks
/// take K, the next V, those after them, if any, Q.
template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads, kBlocksOfMultiprocessor)
    rope_and_store_kernel(RopeParams params, int heads_of_block) {
  extern __shared__ uint4 slice_vectors[];
  __shared__ Place places[kTileRows];
  auto* const slices = reinterpret_cast<Slice*>(slice_vectors);
  allow_next();
  wait_for_previous();
  const RowTile tile = params.tiles[blockIdx.z];
  const int half = static_cast<int>(params.kv.head_dim) / 2;
  const int slices_of_head = (half + kSliceDims - 1) / kSliceDims;
  const int begin = static_cast<int>(blockIdx.y) / slices_of_head * kTileRows;
  const int d = static_cast<int>(blockIdx.y) % slices_of_head * kSliceDims;
  if (begin >= tile.rows) return;
  const int q_heads = static_cast<int>(params.heads);
  const int kv_heads = static_cast<int>(params.kv.kv_heads);
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int kv_blocks = (kv_heads + heads_of_block - 1) / heads_of_block;
  const int kind = min(static_cast<int>(blockIdx.x) / kv_blocks, 2);
  const int first = (static_cast<int>(blockIdx.x) - kind * kv_blocks) * heads_of_block;
  const int heads = min(heads_of_block, (kind == 2 ? q_heads : kv_heads) - first);
  float* const x = params.qkv + (first + (kind == 2 ? 0 : q_heads + kind * kv_heads)) * head_dim;
  const int thread = thread_of_block();
  const Part part = {.begin = tile.row_begin + begin,
                     .rows = min(tile.rows - begin, kTileRows),
                     .places = places,
                     .width = (q_heads + 2 * kv_heads) * head_dim,
                     .d = d,
                     .dims = min(half - d, kSliceDims)};
  const InOrder<kCount> mine;
  const float* const from =
      x + (part.begin + mine.row) * part.width + mine.upper * half + part.d + mine.d;
  copy_slice<kCount>(slices[0], part, from);
  if (thread < part.rows) places[thread] = place_of(params, tile, begin + thread);
  if (kind == 0) {
    const Turner<T> turner(params, part);
    for_each_head<kCount>(slices, part, from, heads, head_dim, [&](Slice& slice, int i) {
      turner.store_k(params, part, slice, first + i);
    });
  } else if (kind == 1) {
    for_each_head<kCount>(slices, part, from, heads, head_dim, [&](Slice& slice, int i) {
      store_v<T, kCount>(params, part, slice, first + i);
    });
  } else {
    for_each_head<kCount>(slices, part, from, heads, head_dim, [&](Slice& slice, int i) {
      store_q<kCount>(params, part, slice, x + i * head_dim);
    });
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

template <auto kKernel>
void launch_many_rows(const RopeParams& params, Queue& queue) {
  constexpr int kSharedBytes = 2 * static_cast<int>(sizeof(Slice));
  cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  const int64_t q_heads = params.keep_q ? 0 : params.heads;
  const int64_t row_tiles = (params.most_rows + kTileRows - 1) / kTileRows;
  const int64_t parts = row_tiles * ((params.kv.head_dim / 2 + kSliceDims - 1) / kSliceDims);
  const int64_t slices = (q_heads + 2 * params.kv.kv_heads) * parts * params.tile_count;
  const int64_t heads_of_block = std::clamp<int64_t>(
      slices / (queue.multiprocessors * kBlocksOfMultiprocessor), 1, kMostHeadsOfBlock);
  const auto blocks = [&](int64_t heads) { return (heads + heads_of_block - 1) / heads_of_block; };
  const dim3 grid(static_cast<unsigned>(2 * blocks(params.kv.kv_heads) + blocks(q_heads)),
                  static_cast<unsigned>(parts), static_cast<unsigned>(params.tile_count));
  launch(queue, kKernel, grid, dim3(kThreads), kSharedBytes, params, heads_of_block);
}

}  // namespace

void rope_and_store(const RopeParams& params, Queue& queue) {
  if (params.most_rows == 1) {
    const int64_t pairs = (params.heads + 2 * params.kv.kv_heads) * (params.kv.head_dim / 2);
    const dim3 grid(static_cast<unsigned>((pairs + kThreads - 1) / kThreads),
                    static_cast<unsigned>(params.tile_count));
    HR_DISPATCH_DTYPE(params.kv.dtype, T,
                      launch(queue, rope_one_row_kernel<T>, grid, dim3(kThreads), 0, params))
    return;
  }
  const bool whole = params.kv.head_dim % (2 * kFloatVector) == 0;
  HR_DISPATCH_DTYPE(params.kv.dtype, T, {
    if (whole) {
      launch_many_rows<rope_and_store_kernel<T, kFloatVector>>(params, queue);
    } else {
      launch_many_rows<rope_and_store_kernel<T, 1>>(params, queue);
    }
  })
}

}  // namespace headrace::cuda
