#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/row_rotation.cuh"

/// What canonical decode attention is made of. In the kernel for any number of rows
/// (attention_decode.cu) a block attends for one row and head over consecutive splits. K and V of a
/// split pass through shared memory as chunks of 16 KiB in a queue that does not drain between splits:
/// first K, some dimensions of all positions at a time; then V, some positions of all dimensions at a
/// time.
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

/// What the block has of the row itself.
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

/// Sums `count` terms of a split in 16 lanes, each in order, then as a tree. Called by whole warps;
/// lane 0 gets the sum.
__device__ __forceinline__ float sum_of_terms(const float* p, int count) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kSplit / kSumLanes; ++i) {
    const int t = i * kSumLanes + static_cast<int>(threadIdx.x) % kSumLanes;
    if (t < count) sum = __fadd_rn(sum, p[t]);
  }
  return tree_sum<kSumLanes>(sum);
}

/// Where the row's own Q, K and V of the head come from, and where K and V go. Needs no earlier kernel:
/// made before wait_for_previous(), it leaves little to compute.
template <typename T, int kHeadDim>
struct RowSource {
  static constexpr int kHalf = kHeadDim / 2;
  const float* q;
  const float* k;
  const float* v;
  const float* cos;
  const float* sin;
  T* k_out;  // null: another head of the group stores K and V
  T* v_out;
  int block_shift;

  __device__ RowSource(const AttentionParams& params, const Query<T, kHeadDim>& query)
      : cos(params.rope.cos + query.row * kHalf),
        sin(params.rope.sin + query.row * kHalf),
        block_shift(query.cache.block_shift) {
    const int heads = static_cast<int>(params.heads);
    const int kv_heads = static_cast<int>(params.kv.kv_heads);
    const int group = heads / kv_heads;
    const int kv_head = query.head / group;
    const float* const row = params.qkv + query.row * params.qkv_stride;
    q = row + query.head * kHeadDim;
    k = row + (heads + kv_head) * kHeadDim;
    v = row + (heads + kv_heads + kv_head) * kHeadDim;
    const bool stores = query.head == kv_head * group;
    const int position = query.context - 1;
    k_out = stores ? const_cast<T*>(query.cache.k_at(position)) : nullptr;
    v_out = stores ? const_cast<T*>(query.cache.v_at(position)) : nullptr;
  }

  /// Of pair d: dimensions d and d + kHalf.
  __device__ __forceinline__ RowRotation rotation(int d) const {
    return {.cos = cos[d], .sin = sin[d]};
  }
  /// Pair d of Q, rotated.
  __device__ __forceinline__ void take_q(int d, const RowRotation& rotation,
                                         OwnRow<T, kHeadDim>& own) const {
    const float2 pair = rotation.of(make_float2(q[d], q[d + kHalf]));
    own.q[d] = pair.x;
    own.q[d + kHalf] = pair.y;
  }
  /// Pair d of K, rotated; into the cache too.
  __device__ __forceinline__ void take_k(int d, const RowRotation& rotation,
                                         OwnRow<T, kHeadDim>& own) const {
    const float2 pair = rotation.of(make_float2(k[d], k[d + kHalf]));
    own.k[d] = round_to<T>(pair.x);
    own.k[d + kHalf] = round_to<T>(pair.y);
    if (k_out == nullptr) return;
    k_out[d << block_shift] = own.k[d];
    k_out[(d + kHalf) << block_shift] = own.k[d + kHalf];
  }
  /// Pair d of V; likewise.
  __device__ __forceinline__ void take_v(int d, OwnRow<T, kHeadDim>& own) const {
    own.v[d] = round_to<T>(v[d]);
    own.v[d + kHalf] = round_to<T>(v[d + kHalf]);
    if (v_out == nullptr) return;
    v_out[d] = own.v[d];
    v_out[d + kHalf] = own.v[d + kHalf];
  }
};

}  // namespace headrace::cuda::decode
