#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/row_rotation.cuh"

/// What canonical decode attention is made of. A block attends for one row and head over
/// consecutive splits. K and V of a split pass through shared memory as chunks of 16 KiB in a queue
/// that does not drain between splits: first K, some dimensions of all positions at a time; then V,
/// some positions of all dimensions at a time.
namespace headrace::cuda::decode {

inline constexpr int kThreads = kSplit / 2;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kChunkBytes = 16384;
inline constexpr int kStages = 4;      // chunks in shared memory where blocks share a multiprocessor,
inline constexpr int kMoreStages = 7;  // and where each has one for itself, but for a product's

template <typename T, int kHeadDim>
struct Chunks {
  static constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));  // elements
  static constexpr int kKDims = kChunkBytes / (kSplit * static_cast<int>(sizeof(T)));
  static constexpr int kOfK = kHeadDim / kKDims;
  static constexpr int kVPositions = kChunkBytes / (kHeadDim * static_cast<int>(sizeof(T)));
  static constexpr int kOfV = kSplit / kVPositions;
  static constexpr int kOfSplit = kOfK + kOfV;
  static constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(T));
  static_assert(kOfK >= 2 && kOfV >= 2, "what one chunk leaves is read after the next begins");
};

/// Asks for `bytes` bytes, whole 16-byte vectors, to be brought to the L2 cache; returns at once. L2
/// is where all writes end, so what is written later is not missed. Does nothing before sm_90.
__device__ __forceinline__ void prefetch(const void* address, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(address), "r"(bytes));
#endif
}

/// What rotate_and_store() leaves for the block.
template <typename T, int kHeadDim>
struct OwnRow {
  float q[kHeadDim];
  T k[kHeadDim];  // where the kernel rotates and stores
  T v[kHeadDim];
};

/// One row and head.
template <typename T, int kHeadDim>
struct Query {
  using C = Chunks<T, kHeadDim>;
  int64_t row;
  int head;
  int context;
  HeadCache<T, kHeadDim> cache;

  __device__ Query(const AttentionParams& params, const RowTile& tile, int head_index)
      : row(tile.row_begin),
        head(head_index),
        context(tile.position + 1),
        cache(params, tile, head_index) {}

  /// Begins to copy a chunk of the split that begins at `begin` to `stage`, but for positions that the
  /// row does not see.
  __device__ __forceinline__ void copy(int begin, int chunk, T* stage) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (chunk < C::kOfK) {
      constexpr int kRowVectors = kSplit / C::kVector;
      constexpr int kRows = kThreads / kRowVectors;  // at once
      const int column = thread % kRowVectors * C::kVector;
      if (begin + column >= context) return;
      const int row = thread / kRowVectors;
      const T* const from = cache.k_at(begin + column) + cache.k_dim(chunk * C::kKDims + row);
      T* const to = stage + row * kSplit + column;
#pragma unroll
      for (int i = 0; i < C::kKDims / kRows; ++i) {
        copy_vector(to + i * kRows * kSplit, from + cache.k_dim(i * kRows));
      }
      return;
    }
    constexpr int kRowVectors = kHeadDim / C::kVector;
    constexpr int kRows = kThreads / kRowVectors;
    const int column = thread % kRowVectors * C::kVector;
    const int row = thread / kRowVectors;
    const int first = begin + (chunk - C::kOfK) * C::kVPositions + row;
    T* const to = stage + row * kHeadDim + column;
#pragma unroll
    for (int i = 0; i < C::kVPositions / kRows; ++i) {
      const int position = first + i * kRows;
      if (position >= context) return;
      copy_vector(to + i * kRows * kHeadDim, cache.v_at(position) + column);
    }
  }
};

/// Rotates the thread's pair of Q; if the row's own position is this block's, that of K too, and takes
/// V. One head of each group writes both to the cache.
template <typename T, int kHeadDim>
__device__ __forceinline__ void rotate_and_store(const AttentionParams& params,
                                                 const Query<T, kHeadDim>& query, bool owns,
                                                 OwnRow<T, kHeadDim>& own) {
  constexpr int kHalf = kHeadDim / 2;
  const int d = static_cast<int>(threadIdx.x);
  const RowRotation rotation = {.cos = params.rope.cos[query.row * kHalf + d],
                                .sin = params.rope.sin[query.row * kHalf + d]};
  const float* const row = params.qkv + query.row * params.qkv_stride;
  const auto pair_of = [&](int64_t head) {
    return make_float2(row[head * kHeadDim + d], row[head * kHeadDim + d + kHalf]);
  };
  const float2 q = rotation.of(pair_of(query.head));
  own.q[d] = q.x;
  own.q[d + kHalf] = q.y;
  if (!owns) return;
  const int64_t group = params.heads / params.kv.kv_heads;
  const int64_t kv_head = query.head / group;
  const float2 k = rotation.of(pair_of(params.heads + kv_head));
  const float2 v = pair_of(params.heads + params.kv.kv_heads + kv_head);
  own.k[d] = round_to<T>(k.x);
  own.k[d + kHalf] = round_to<T>(k.y);
  own.v[d] = round_to<T>(v.x);
  own.v[d + kHalf] = round_to<T>(v.y);
  if (query.head % group != 0) return;
  const int position = query.context - 1;
  T* const k_out = const_cast<T*>(query.cache.k_at(position));
  T* const v_out = const_cast<T*>(query.cache.v_at(position));
  k_out[query.cache.k_dim(d)] = own.k[d];
  k_out[query.cache.k_dim(d + kHalf)] = own.k[d + kHalf];
  v_out[d] = own.v[d];
  v_out[d + kHalf] = own.v[d + kHalf];
}

}  // namespace headrace::cuda::decode
