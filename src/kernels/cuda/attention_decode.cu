#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"

namespace headrace::cuda {
namespace {

using namespace decode;

// Of a chunk of K a thread scores two positions; of one of V it owns a dimension.
template <typename T, int kHeadDim>
struct Shared {
  OwnRow<T, kHeadDim> own;
  float p[kSplit];
  float warp_max[kWarps];
  float sum;
  int is_last;
};

/// Adds a chunk of K to the dot products of positions 2 * thread and 2 * thread + 1.
template <typename T, int kHeadDim>
__device__ __forceinline__ void add_scores(const T* stage, const float* q, float (&dots)[2]) {
  const auto* const k = reinterpret_cast<const Packed<T, 2>*>(stage) + threadIdx.x;
#pragma unroll
  for (int d = 0; d < Chunks<T, kHeadDim>::kKDims; ++d) {
    const Packed<T, 2> pair = k[d * (kSplit / 2)];
    dots[0] = __fmaf_rn(q[d], to_float(pair.values[0]), dots[0]);
    dots[1] = __fmaf_rn(q[d], to_float(pair.values[1]), dots[1]);
  }
}

/// From the split's scores to p, in shared memory; returns the largest score. Other threads see p
/// after the next barrier.
template <typename T, int kHeadDim>
__device__ __forceinline__ float softmax_terms(const float (&dots)[2], float scale, int count,
                                               Shared<T, kHeadDim>& shared) {
  const int first = 2 * static_cast<int>(threadIdx.x);
  float scores[2];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    scores[i] = first + i < count ? __fmul_rn(dots[i], scale) : -INFINITY;
    most = larger(most, scores[i]);
  }
  most = largest_of_warp(most);
  if (threadIdx.x % 32 == 0) shared.warp_max[threadIdx.x / 32] = most;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) most = larger(most, shared.warp_max[w]);
#pragma unroll
  for (int i = 0; i < 2; ++i) shared.p[first + i] = canonical_exp(__fsub_rn(scores[i], most));
  return most;
}

/// Adds `count` positions of a chunk of V to the thread's dimension.
template <typename T, int kHeadDim>
__device__ __forceinline__ void add_values(const T* stage, const float* p, int count,
                                           float& weighted) {
  constexpr int kAtOnce = 16;
  const T* const values = stage + threadIdx.x;
  int t = 0;
  for (; t + kAtOnce <= count; t += kAtOnce) {
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      weighted = __fmaf_rn(p[t + u], to_float(values[(t + u) * kHeadDim]), weighted);
    }
  }
  for (; t < count; ++t) weighted = __fmaf_rn(p[t], to_float(values[t * kHeadDim]), weighted);
}

/// A block per (part of the splits, head, tile of one row).
template <typename T, int kHeadDim, int kStages>
__global__ void __launch_bounds__(kThreads, 3) attention_decode_kernel(AttentionParams params) {
  using C = Chunks<T, kHeadDim>;
  extern __shared__ uint4 stage_vectors[];
  __shared__ Shared<T, kHeadDim> shared;
  allow_next();
  const int thread = static_cast<int>(threadIdx.x);
  const int tile_index = static_cast<int>(blockIdx.z);
  const Query<T, kHeadDim> query(params, params.tiles[tile_index],
                                        static_cast<int>(blockIdx.y));
  const int splits = (query.context + kSplit - 1) / kSplit;
  const int parts = (splits + params.part_splits - 1) / params.part_splits;
  const int first = static_cast<int>(blockIdx.x) * params.part_splits;
  const int last = min(splits, first + params.part_splits);
  // What is in the cache can come to L2 while the kernel before runs.
  if (const int position = first * kSplit + thread / 2 * (1 << query.cache.block_shift);
      position < min(query.context, last * kSplit)) {
    prefetch((thread % 2 == 0 ? query.cache.k : query.cache.v) + query.cache.block_at(position),
             static_cast<int>(sizeof(T)) * kHeadDim << query.cache.block_shift);
  }
  const int chunks = max(last - first, 0) * C::kOfSplit;
  const auto stage = [&](int n) {
    return reinterpret_cast<T*>(stage_vectors) + n % kStages * C::kElements;
  };
  const auto copy = [&](int n) {
    if (n < chunks) query.copy((first + n / C::kOfSplit) * kSplit, n % C::kOfSplit, stage(n));
    end_copies_of_stage();
  };
  const auto copy_first = [&] {
#pragma unroll
    for (int n = 0; n < kStages - 1; ++n) copy(n);
  };
  if (params.rope.stores) copy_first();
  wait_for_previous();
  if (first >= last) return;
  if (!params.rope.stores) copy_first();
  const bool fused = params.rope.cos != nullptr;
  // The row's own K and V are not in the cache yet; its split takes them from here.
  const int own_position = fused && last == splits ? query.context - 1 : -1;
  if (!fused) {
    if (thread < kHeadDim) {
      shared.own.q[thread] = params.qkv[query.row * params.qkv_stride + query.head * kHeadDim + thread];
    }
  } else if (thread < kHeadDim / 2) {
    const RowSource<T, kHeadDim> source(params, query);
    const RowRotation rotation = source.rotation(thread);
    source.take_q(thread, rotation, shared.own);
    if (own_position >= 0) {
      source.take_k(thread, rotation, shared.own);
      source.take_v(thread, shared.own);
    }
  }
  const int64_t unit = static_cast<int64_t>(tile_index) * params.heads + query.head;
  float* const partials = params.partials + unit * params.max_splits * (kHeadDim + 2);
  Folded<1> folded;
  folded.clear();
  int n = 0;
  for (int split = first; split < last; ++split) {
    const int count = min(kSplit, query.context - split * kSplit);
    float dots[2] = {};
    float most = 0.0f;
    float weighted[1] = {};
#pragma unroll
    for (int chunk = 0; chunk < C::kOfSplit; ++chunk, ++n) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // all have the chunk, and have left the one before
      copy(n + kStages - 1);
      const int own = own_position - split * kSplit;  // negative, or past the split: not here
      if (chunk < C::kOfK) {
        if (own >= 0 && own / 2 == thread) {
#pragma unroll 4
          for (int d = 0; d < C::kKDims; ++d) {
            stage(n)[d * kSplit + own] = shared.own.k[chunk * C::kKDims + d];
          }
        }
        add_scores<T, kHeadDim>(stage(n), shared.own.q + chunk * C::kKDims, dots);
        if (chunk == C::kOfK - 1) most = softmax_terms(dots, params.scale, count, shared);
        continue;
      }
      const int begin = (chunk - C::kOfK) * C::kVPositions;
      if (thread < kHeadDim) {
        if (own >= begin && own < begin + C::kVPositions) {
          stage(n)[(own - begin) * kHeadDim + thread] = shared.own.v[thread];
        }
        add_values<T, kHeadDim>(stage(n), shared.p + begin, min(C::kVPositions, count - begin),
                                weighted[0]);
      }
      if (chunk == C::kOfK && thread < 32) {
        const float sum = sum_of_terms(shared.p, count);
        if (thread == 0) shared.sum = sum;
      }
    }
    if (parts == 1) {
      folded.fold(most, shared.sum, weighted);
      continue;
    }
    float* const mine = partials + static_cast<int64_t>(split) * (kHeadDim + 2);
    if (thread < kHeadDim) mine[2 + thread] = weighted[0];
    if (thread == 0) {
      mine[0] = most;
      mine[1] = shared.sum;
    }
  }
  if (parts > 1) {
    if (!last_to_arrive(params.counters + unit, parts, shared.is_last)) return;
    for (int s = 0; s < splits; ++s) {
      const float* part = partials + static_cast<int64_t>(s) * (kHeadDim + 2);
      const float weighted[1] = {thread < kHeadDim ? __ldcg(part + 2 + thread) : 0.0f};
      folded.fold(__ldcg(part), __ldcg(part + 1), weighted);
    }
  }
  if (thread >= kHeadDim) return;
  T* const out = reinterpret_cast<T*>(params.out);
  out[(query.row * params.heads + query.head) * kHeadDim + thread] =
      round_to<T>(__fdiv_rn(folded.weighted[0], folded.sum));
}

template <typename T, int kHeadDim>
void launch_decode(AttentionParams params, Queue& queue) {
  // With some blocks more than run together, the last ones end nearly together; with many more, a
  // block that goes on to its next split keeps its queue filled.
  constexpr int64_t kEnoughBlocks = 2048;
  constexpr int64_t kFewBlocks = 128;
  const int64_t units = params.heads * params.tile_count;
  const auto parts = static_cast<int32_t>(
      std::clamp<int64_t>((kEnoughBlocks + units - 1) / units, 1, params.max_splits));
  params.part_splits = (params.max_splits + parts - 1) / parts;
  const dim3 grid(static_cast<unsigned>(parts), static_cast<unsigned>(params.heads),
                  static_cast<unsigned>(params.tile_count));
  const bool few = parts * units <= kFewBlocks;
  if (few && launch_attention<attention_decode_kernel<T, kHeadDim, kMoreStages>>(
                 grid, kThreads, kMoreStages * kChunkBytes, params, queue)) {
    return;
  }
  launch_attention<attention_decode_kernel<T, kHeadDim, kStages>>(
      grid, kThreads, kStages * kChunkBytes, params, queue);  // fits every device
}

}  // namespace

bool attention_is_specialized(const KvView& kv, DType out_dtype) {
  constexpr int64_t kVector = kVectorBytes / 2;
  const bool whole_vectors = kv.block_tokens % kVector == 0 && kv.block_tokens <= 1 << 20 &&
                             (kv.block_tokens & (kv.block_tokens - 1)) == 0;
  return whole_vectors && kv.dtype == out_dtype && kv.dtype != DType::kFloat32 &&
         (kv.head_dim == 64 || kv.head_dim == 128);
}

bool attention_decode(const AttentionParams& params, Queue& queue) {
  if (!attention_is_specialized(params.kv, params.out_dtype)) return false;
  if (attention_decode_early(params, queue)) return true;
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim, (launch_decode<T, kHeadDim>(params, queue)))
  return true;
}

}  // namespace headrace::cuda
