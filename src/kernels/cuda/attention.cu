#include "kernels/cuda/attention.cuh"

namespace headrace::cuda {
namespace {

constexpr int kThreads = kSplit;  // a thread scores one position
constexpr int kWarps = kThreads / 32;
constexpr int kMostHeadDim = 256;
constexpr int kUnroll = 32;              // loads in flight of a thread
constexpr int kMostStagedBytes = 65536;  // of a split's V in shared memory

struct SharedRow {
  float q[kMostHeadDim];
  float p[kSplit];
  float warp_max[kWarps];
  float sum;
  int is_last;
};

/// One query row and head.
struct Query {
  int64_t row;
  int head;
  int64_t kv_head;
  int context;  // positions that it sees
  const int32_t* table;
};

__device__ __forceinline__ Query query_of(const AttentionParams& params, const RowTile& tile,
                                          int in_tile, int head) {
  return {.row = tile.row_begin + in_tile,
          .head = head,
          .kv_head = head / (params.heads / params.kv.kv_heads),
          .context = tile.position + in_tile + 1,
          .table = params.blocks + tile.table_begin};
}

template <typename T>
__device__ void load_q(const AttentionParams& params, const Query& query, SharedRow& shared) {
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const float* q = params.qkv + query.row * params.qkv_stride +
                   static_cast<int64_t>(query.head) * head_dim;
  for (int d = threadIdx.x; d < head_dim; d += kThreads) shared.q[d] = q[d];
}

/// The score of one position: K lies position by position for each dimension.
template <typename T>
__device__ __forceinline__ float score(const AttentionParams& params, const Query& query,
                                       const SharedRow& shared, int position) {
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  const int64_t block = query.table[position / block_tokens] * params.kv.block_stride;
  const T* k = reinterpret_cast<const T*>(params.kv.k) + block +
               query.kv_head * head_dim * block_tokens + position % block_tokens;
  float dot = 0.0f;
  int d = 0;
  for (; d + kUnroll <= head_dim; d += kUnroll) {
    T loaded[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) loaded[u] = k[(d + u) * block_tokens];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) dot = __fmaf_rn(shared.q[d + u], to_float(loaded[u]), dot);
  }
  for (; d < head_dim; ++d) dot = __fmaf_rn(shared.q[d], to_float(k[d * block_tokens]), dot);
  return __fmul_rn(dot, params.scale);
}

/// Where V of a position begins.
template <typename T>
__device__ __forceinline__ const T* v_row(const AttentionParams& params, const Query& query,
                                          int position) {
  const int block_tokens = static_cast<int>(params.kv.block_tokens);
  const int64_t block = query.table[position / block_tokens] * params.kv.block_stride;
  return reinterpret_cast<const T*>(params.kv.v) + block +
         (query.kv_head * block_tokens + position % block_tokens) * params.kv.head_dim;
}

/// Begins to copy V of the split's positions to shared memory.
template <typename T>
__device__ void stage_v(const AttentionParams& params, const Query& query, int begin, int count,
                        std::byte* staged) {
  const int row_vectors = static_cast<int>(params.kv.head_dim * sizeof(T)) / kVectorBytes;
  for (int i = threadIdx.x; i < count * row_vectors; i += kThreads) {
    const int position = i / row_vectors;
    const int vector = i % row_vectors;
    const std::byte* from =
        reinterpret_cast<const std::byte*>(v_row<T>(params, query, begin + position)) +
        vector * kVectorBytes;
    copy_vector(staged + i * kVectorBytes, from);
  }
}

/// Largest of the block's scores, of which a NaN never is; leaves it in every thread.
__device__ float block_max(float value, SharedRow& shared) {
  value = largest_of_warp(larger(-INFINITY, value));
  if (threadIdx.x % 32 == 0) shared.warp_max[threadIdx.x / 32] = value;
  __syncthreads();
  float most = shared.warp_max[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) most = larger(most, shared.warp_max[w]);
  return most;
}

/// Sums p in 16 lanes, each in order, then as a tree. Called by the first warp.
__device__ float lane_sum(const SharedRow& shared, int count) {
  float sum = 0.0f;
  if (threadIdx.x < kSumLanes) {
    for (int t = threadIdx.x; t < count; t += kSumLanes) sum = __fadd_rn(sum, shared.p[t]);
  }
  return tree_sum<kSumLanes>(sum);
}

struct SplitResult {
  float max;
  float sum;
  float weighted[1];  // of the thread's dimension
};

/// Positions [begin, begin + count) of a query; the thread's dimension is its number.
template <typename T, bool kStaged>
__device__ SplitResult attend_split(const AttentionParams& params, const Query& query, int begin,
                                    int count, SharedRow& shared, std::byte* staged) {
  const int thread = threadIdx.x;
  const int head_dim = static_cast<int>(params.kv.head_dim);
  if (kStaged) stage_v<T>(params, query, begin, count, staged);
  const bool present = thread < count;
  const float s = present ? score<T>(params, query, shared, begin + thread) : -INFINITY;
  SplitResult result;
  result.max = block_max(s, shared);
  if (present) shared.p[thread] = canonical_exp(__fsub_rn(s, result.max));
  if (kStaged) asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  if (thread < 32) {
    const float sum = lane_sum(shared, count);
    if (thread == 0) shared.sum = sum;
  }
  result.weighted[0] = 0.0f;
  if (thread < head_dim) {
    const T* const values = reinterpret_cast<const T*>(staged) + thread;
    int t = 0;
    for (; t + kUnroll <= count; t += kUnroll) {
      T loaded[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        loaded[u] = kStaged ? values[(t + u) * head_dim]
                            : v_row<T>(params, query, begin + t + u)[thread];
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        result.weighted[0] = __fmaf_rn(shared.p[t + u], to_float(loaded[u]), result.weighted[0]);
      }
    }
    for (; t < count; ++t) {
      const T v = kStaged ? values[t * head_dim] : v_row<T>(params, query, begin + t)[thread];
      result.weighted[0] = __fmaf_rn(shared.p[t], to_float(v), result.weighted[0]);
    }
  }
  __syncthreads();
  result.sum = shared.sum;
  return result;
}

__device__ __forceinline__ void write_out(const AttentionParams& params, const Query& query,
                                          const Folded<1>& folded) {
  const int head_dim = static_cast<int>(params.kv.head_dim);
  if (threadIdx.x >= head_dim) return;
  const int64_t at = (query.row * params.heads + query.head) * head_dim + threadIdx.x;
  const float value = __fdiv_rn(folded.weighted[0], folded.sum);
  HR_DISPATCH_DTYPE(params.out_dtype, T,
                    reinterpret_cast<T*>(params.out)[at] = round_to<T>(value))
}

/// A block per (split, head, tile of one row).
template <typename T, bool kStaged>
__global__ void __launch_bounds__(kThreads) attention_one_row_kernel(AttentionParams params) {
  extern __shared__ uint4 staged_vectors[];
  __shared__ SharedRow shared;
  allow_next();
  wait_for_previous();
  const int tile_index = static_cast<int>(blockIdx.z);
  const int split = static_cast<int>(blockIdx.x);
  const Query query =
      query_of(params, params.tiles[tile_index], 0, static_cast<int>(blockIdx.y));
  const int begin = split * kSplit;
  if (begin >= query.context) return;
  load_q<T>(params, query, shared);
  __syncthreads();
  const SplitResult result =
      attend_split<T, kStaged>(params, query, begin, min(kSplit, query.context - begin), shared,
                               reinterpret_cast<std::byte*>(staged_vectors));
  const int splits = (query.context + kSplit - 1) / kSplit;
  Folded<1> folded;
  folded.clear();
  if (splits == 1) {
    folded.fold(result.max, result.sum, result.weighted);
    return write_out(params, query, folded);
  }
  const int head_dim = static_cast<int>(params.kv.head_dim);
  const int thread = threadIdx.x;
  const int64_t unit = static_cast<int64_t>(tile_index) * params.heads + query.head;
  float* const partials = params.partials + unit * params.max_splits * (head_dim + 2);
  float* const mine = partials + static_cast<int64_t>(split) * (head_dim + 2);
  if (thread < head_dim) mine[2 + thread] = result.weighted[0];
  if (thread == 0) {
    mine[0] = result.max;
    mine[1] = result.sum;
  }
  if (!last_to_arrive(params.counters + unit, splits, shared.is_last)) return;
  for (int s = 0; s < splits; ++s) {
    const float* part = partials + static_cast<int64_t>(s) * (head_dim + 2);
    const float weighted[1] = {thread < head_dim ? __ldcg(part + 2 + thread) : 0.0f};
    folded.fold(__ldcg(part), __ldcg(part + 1), weighted);
  }
  write_out(params, query, folded);
}

/// A block per (row of a tile, head, tile): the splits one after the other.
template <typename T, bool kStaged>
__global__ void __launch_bounds__(kThreads) attention_row_kernel(AttentionParams params) {
  extern __shared__ uint4 staged_vectors[];
  __shared__ SharedRow shared;
  allow_next();
  wait_for_previous();
  const RowTile tile = params.tiles[blockIdx.z];
  const int in_tile = static_cast<int>(blockIdx.x);
  if (in_tile >= tile.rows) return;
  const Query query = query_of(params, tile, in_tile, static_cast<int>(blockIdx.y));
  load_q<T>(params, query, shared);
  __syncthreads();
  Folded<1> folded;
  folded.clear();
  for (int begin = 0; begin < query.context; begin += kSplit) {
    const SplitResult result =
        attend_split<T, kStaged>(params, query, begin, min(kSplit, query.context - begin), shared,
                                 reinterpret_cast<std::byte*>(staged_vectors));
    folded.fold(result.max, result.sum, result.weighted);
  }
  write_out(params, query, folded);
}

template <typename T, bool kStaged>
void launch_rows(void (*kernel)(AttentionParams), dim3 grid, const AttentionParams& params,
                 Queue& queue) {
  size_t shared = 0;
  if (kStaged) {
    shared = static_cast<size_t>(kSplit * params.kv.head_dim) * sizeof(T);
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostStagedBytes);
  }
  launch(queue, kernel, grid, dim3(kThreads), shared, params);
}

template <typename T>
bool can_stage(int64_t head_dim) {
  const int64_t row_bytes = head_dim * static_cast<int64_t>(sizeof(T));
  return row_bytes % kVectorBytes == 0 && kSplit * row_bytes <= kMostStagedBytes;
}

}  // namespace

int64_t attention_partial_floats(int64_t tiles, int64_t heads, int64_t splits, int64_t head_dim) {
  return tiles * heads * splits * (head_dim + 2);
}

void attention_one_row(const AttentionParams& params, Queue& queue) {
  if (params.matrix_class) return attention_decode_matrix(params, queue);
  if (attention_decode(params, queue)) return;
  const dim3 grid(static_cast<unsigned>(params.max_splits), static_cast<unsigned>(params.heads),
                  static_cast<unsigned>(params.tile_count));
  HR_DISPATCH_DTYPE(params.kv.dtype, T, {
    if (can_stage<T>(params.kv.head_dim)) {
      launch_rows<T, true>(attention_one_row_kernel<T, true>, grid, params, queue);
    } else {
      launch_rows<T, false>(attention_one_row_kernel<T, false>, grid, params, queue);
    }
  })
}

void attention_many_rows(const AttentionParams& params, Queue& queue) {
  if (params.matrix_class) return attention_tiles_matrix(params, queue);
  if (attention_tiles(params, queue)) return;
  const dim3 grid(static_cast<unsigned>(kPrefillTileRows), static_cast<unsigned>(params.heads),
                  static_cast<unsigned>(params.tile_count));
  HR_DISPATCH_DTYPE(params.kv.dtype, T, {
    if (can_stage<T>(params.kv.head_dim)) {
      launch_rows<T, true>(attention_row_kernel<T, true>, grid, params, queue);
    } else {
      launch_rows<T, false>(attention_row_kernel<T, false>, grid, params, queue);
    }
  })
}

}  // namespace headrace::cuda
