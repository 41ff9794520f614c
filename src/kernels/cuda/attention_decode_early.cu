#include <algorithm>

#include <cooperative_groups.h>

#include "kernels/cuda/arrival.cuh"
#include "kernels/cuda/attention_decode.cuh"

/// Canonical decode attention of few rows, beside the product before it. A block attends for one row
/// and head over one split. Half of its threads hold the split's K in registers, the other half V, and
/// it needs so little shared memory that it runs beside a product's block: what the cache has of
/// earlier passes arrives while that product still runs. The splits of a row and head are a cluster,
/// whose first block folds them.
///
/// What a block does after its wait is long code that runs once, and would come from memory as it goes.
/// So every thread goes through it twice: a first time before the wait, with whatever Q is there, for
/// the instruction caches' sake.
namespace headrace::cuda {
namespace {

using namespace decode;

constexpr int kMostSplits = 8;    // a cluster's blocks, on every device of full size
constexpr int kFewestBlocks = 2;  // of a cluster: what is launched with one has none to send within
constexpr int kRoleThreads = kSplit / 2;
constexpr int kRegisters = 160;  // a thread; a product of one row leaves that many

/// What a split comes to.
template <int kHeadDim>
struct SplitSums {
  float2 max_and_sum;
  float weighted[kHeadDim];
};

template <typename T, int kHeadDim>
struct Shared {
  OwnRow<T, kHeadDim> own;
  float own_score;
  alignas(16) float p[kSplit];
  float warp_max[kWarps];
  alignas(8) float weighted[kHeadDim];      // of V's parts so far
  SplitSums<kHeadDim> splits[kMostSplits];  // in the cluster's first block
  Arrival arrival;                          // of them

  /// __syncthreads() where the roles' ways have parted.
  static __device__ __forceinline__ void meet() { asm volatile("bar.sync 0;" ::: "memory"); }
};

/// Which positions the block attends to.
template <typename T, int kHeadDim>
struct Split {
  int index;
  int begin;   // its first position
  int count;   // positions that the row sees
  int own;     // the row's own position; past the split: not here
  int cached;  // positions that the cache has
  bool owns;

  __device__ Split(const Query<T, kHeadDim>& query, int split)
      : index(split),
        begin(split * kSplit),
        count(min(kSplit, query.context - begin)),
        own(query.context - 1 - begin),
        cached(min(kSplit, own)),
        owns(own < kSplit) {}
};

template <typename T>
__device__ __forceinline__ float2 widen2(uint32_t pair) {
  const auto values = reinterpret_cast<const Packed<T, 2>&>(pair);
  return make_float2(to_float(values.values[0]), to_float(values.values[1]));
}

/// Keeps the compiler from widening what registers hold before this place, for which there are not
/// enough.
template <int kCount>
__device__ __forceinline__ void keep_packed(uint32_t (&held)[kCount]) {
#pragma unroll
  for (uint32_t& pair : held) asm volatile("" : "+r"(pair));
}

/// The threads of K, each with two positions of the split: of what the cache has, dimension d of both
/// in held_[d].
template <typename T, int kHeadDim>
class KeyThread {
 public:
  __device__ __forceinline__ KeyThread(const AttentionParams& params,
                                       const Query<T, kHeadDim>& query,
                                       const Split<T, kHeadDim>& split)
      : split_(split),
        scale_(params.scale),
        source_(params, query),
        rotation_(source_.rotation(min(pair_, kHalf - 1))) {
    if (first_ >= split.cached) return;
    const T* const k = query.cache.k_at(split.begin + first_);
#pragma unroll
    for (int d = 0; d < kHeadDim; ++d) {
      held_[d] = *reinterpret_cast<const uint32_t*>(k + query.cache.k_dim(d));
    }
  }

  /// The first threads of both halves take Q and the row's own K.
  __device__ __forceinline__ void take_own(OwnRow<T, kHeadDim>& own) const {
    if (pair_ >= kHalf) return;
    if (thread_ == pair_) {
      source_.take_q(pair_, rotation_, own);
    } else if (split_.owns) {
      source_.take_k(pair_, rotation_, own);
    }
  }

  /// Leaves p of the split in shared memory; returns the largest score.
  __device__ __forceinline__ float score(Shared<T, kHeadDim>& shared) {
    shared.meet();  // Q and the row's own K and V are there
    keep_packed(held_);
    float2 dots = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int d = 0; d < kHeadDim; ++d) {
      const float q = shared.own.q[d];
      const float2 k = widen2<T>(held_[d]);
      dots.x = __fmaf_rn(q, k.x, dots.x);
      dots.y = __fmaf_rn(q, k.y, dots.y);
    }
    float2 scores = make_float2(-INFINITY, -INFINITY);
    if (first_ < split_.cached) scores.x = __fmul_rn(dots.x, scale_);
    if (first_ + 1 < split_.cached) scores.y = __fmul_rn(dots.y, scale_);
    const float of_warp = largest_of_warp(larger(larger(-INFINITY, scores.x), scores.y));
    if (thread_ % 32 == 0) shared.warp_max[thread_ / 32] = of_warp;
    shared.meet();  // all scores are there
    float most = -INFINITY;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) most = larger(most, shared.warp_max[w]);
    if (split_.owns) {
      most = larger(most, shared.own_score);
      if (first_ == split_.own) scores.x = shared.own_score;
      if (first_ + 1 == split_.own) scores.y = shared.own_score;
    }
    shared.p[first_] = canonical_exp(__fsub_rn(scores.x, most));
    shared.p[first_ + 1] = canonical_exp(__fsub_rn(scores.y, most));
    shared.meet();  // p is there
    return most;
  }

  __device__ __forceinline__ void send(float most, Shared<T, kHeadDim>& shared) const {
    if (thread_ >= 32) return;
    const float sum = sum_of_terms(shared.p, split_.count);
    if (thread_ == 0) {
      shared.arrival.send(0, &shared.splits[split_.index].max_and_sum.x, make_float2(most, sum));
    }
  }

 private:
  static constexpr int kHalf = kHeadDim / 2;

  const Split<T, kHeadDim>& split_;
  const float scale_;
  const int thread_ = static_cast<int>(threadIdx.x);
  const int first_ = 2 * thread_;
  const int pair_ = thread_ % (kRoleThreads / 2);
  const RowSource<T, kHeadDim> source_;
  const RowRotation rotation_;
  uint32_t held_[kHeadDim] = {};
};

/// The threads of V, each with two dimensions of a part of the positions, the part's position i in
/// held_[i]. The parts follow one another, as sums are in the positions' order. Where the cache has
/// nothing, p is 0 or, if all are, no number, and V is -0: the product changes no bit of a sum.
template <typename T, int kHeadDim>
class ValueThread {
 public:
  __device__ __forceinline__ ValueThread(const AttentionParams& params,
                                         const Query<T, kHeadDim>& query,
                                         const Split<T, kHeadDim>& split)
      : split_(split), scale_(params.scale), source_(params, query) {
    constexpr int kInBlock = 8;  // positions that surely lie in one block
    const int last = max(split.cached - 1, 0);
#pragma unroll
    for (int i = 0; i < kPositions; i += kInBlock) {
      const T* const v = query.cache.v_at(split.begin + min(first_ + i, last)) + dim_;
#pragma unroll
      for (int j = 0; j < kInBlock; ++j) {
        held_[i + j] = first_ + i + j < split.cached
                           ? *reinterpret_cast<const uint32_t*>(v + j * kHeadDim)
                           : kMinusZeros;
      }
    }
  }

  /// Waits for the other threads of V.
  static __device__ __forceinline__ void meet_role() {
    asm volatile("bar.sync 1, %0;" ::"n"(kRoleThreads) : "memory");
  }
  /// The row's own V.
  __device__ __forceinline__ void take_own(OwnRow<T, kHeadDim>& own) const {
    if (split_.owns && thread_ < kPairs) source_.take_v(thread_, own);
  }

  /// Waits for p, and returns the sums of the part and those before it.
  __device__ __forceinline__ float2 weigh(Shared<T, kHeadDim>& shared) {
    shared.meet();
    if (split_.owns && thread_ == 0) shared.own_score = own_score(shared.own);
    shared.meet();
    shared.meet();
#pragma unroll 1
    for (int before = 0; before < part_; ++before) meet_role();
    keep_packed(held_);
    auto& so_far = *reinterpret_cast<float2*>(shared.weighted + dim_);
    float2 sums = part_ == 0 ? make_float2(0.0f, 0.0f) : so_far;
#pragma unroll
    for (int i = 0; i < kPositions; ++i) add(shared.p[first_ + i], widen2<T>(held_[i]), sums);
    if (first_ <= split_.own && split_.own < first_ + kPositions) {
      const T* const own = shared.own.v + dim_;
      add(shared.p[split_.own], make_float2(to_float(own[0]), to_float(own[1])), sums);
    }
    so_far = sums;
#pragma unroll 1
    for (int after = part_ + 1; after < kParts; ++after) meet_role();
    return sums;
  }

  __device__ __forceinline__ void send(float2 sums, Shared<T, kHeadDim>& shared) const {
    if (part_ != kParts - 1) return;
    shared.arrival.send(0, shared.splits[split_.index].weighted + dim_, sums);
  }

 private:
  static constexpr int kPairs = kHeadDim / 2;
  static constexpr int kParts = kRoleThreads / kPairs;
  static constexpr int kPositions = kSplit / kParts;
  static constexpr uint32_t kMinusZeros = 0x80008000u;  // of either 16-bit type

  static __device__ __forceinline__ void add(float p, float2 v, float2& sums) {
    sums.x = __fmaf_rn(p, v.x, sums.x);
    sums.y = __fmaf_rn(p, v.y, sums.y);
  }
  /// Of the row's own position, in the order of all others.
  __device__ __forceinline__ float own_score(const OwnRow<T, kHeadDim>& own) const {
    float dot = 0.0f;
#pragma unroll 16
    for (int d = 0; d < kHeadDim; ++d) dot = __fmaf_rn(own.q[d], to_float(own.k[d]), dot);
    return __fmul_rn(dot, scale_);
  }

  const Split<T, kHeadDim>& split_;
  const float scale_;
  const int thread_ = static_cast<int>(threadIdx.x) - kRoleThreads;
  const int part_ = thread_ / kPairs;
  const int dim_ = thread_ % kPairs * 2;
  const int first_ = part_ * kPositions;
  const RowSource<T, kHeadDim> source_;
  uint32_t held_[kPositions];
};

template <typename T, int kHeadDim>
__device__ __forceinline__ void fold_splits(const AttentionParams& params,
                                            const Query<T, kHeadDim>& query, int splits,
                                            Shared<T, kHeadDim>& shared) {
  const int dim = static_cast<int>(threadIdx.x);
  if (dim >= kHeadDim) return;
  shared.arrival.wait_for_cluster(0);
  Folded<1> folded;
  folded.clear();
#pragma unroll 1
  for (int s = 0; s < splits; ++s) {
    const SplitSums<kHeadDim>& sums = shared.splits[s];
    const float weighted[1] = {sums.weighted[dim]};
    folded.fold(sums.max_and_sum.x, sums.max_and_sum.y, weighted);
  }
  reinterpret_cast<T*>(params.out)[(query.row * params.heads + query.head) * kHeadDim + dim] =
      round_to<T>(__fdiv_rn(folded.weighted[0], folded.sum));
}

/// A block per (split, head, tile of one row).
template <typename T, int kHeadDim>
__global__ void __maxnreg__(kRegisters) attention_decode_early_kernel(AttentionParams params) {
#if __CUDA_ARCH__ >= 900
  constexpr int kTurns = 2;  // of which the last one counts
  __shared__ Shared<T, kHeadDim> shared;
  allow_next();
  const int thread = static_cast<int>(threadIdx.x);
  const Query<T, kHeadDim> query(params, params.tiles[blockIdx.z], static_cast<int>(blockIdx.y));
  const int splits = (query.context + kSplit - 1) / kSplit;
  const Split<T, kHeadDim> split(query, static_cast<int>(blockIdx.x));
  if (thread == 0) {
    shared.arrival.init();
    shared.arrival.expect(splits * static_cast<int>(sizeof(SplitSums<kHeadDim>)));
  }
  cooperative_groups::this_cluster().sync();  // the first block's arrival is there
  if (split.index >= splits) return wait_for_previous();
  if (thread < kRoleThreads) {
    KeyThread<T, kHeadDim> key(params, query, split);
    float most = 0.0f;
#pragma unroll 1
    for (int turn = 1; turn <= kTurns; ++turn) {
      if (turn == kTurns) {
        wait_for_previous();
        key.take_own(shared.own);
      }
      most = key.score(shared);
    }
    key.send(most, shared);
  } else {
    ValueThread<T, kHeadDim> value(params, query, split);
    float2 sums = {};
#pragma unroll 1
    for (int turn = 1; turn <= kTurns; ++turn) {
      if (turn == kTurns) {
        value.meet_role();  // all have left the row's own V
        wait_for_previous();
        value.take_own(shared.own);
      }
      sums = value.weigh(shared);
    }
    value.send(sums, shared);
  }
  if (split.index == 0) fold_splits(params, query, splits, shared);
#endif
}

template <typename T, int kHeadDim>
bool launch_early(const AttentionParams& params, Queue& queue) {
  constexpr auto kKernel = attention_decode_early_kernel<T, kHeadDim>;
  const dim3 threads(2 * kRoleThreads);
  static const int most_blocks = most_cluster_blocks(kKernel, threads);
  const int blocks = std::max(kFewestBlocks, params.max_splits);
  if (blocks > most_blocks) return false;
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(params.heads),
                  static_cast<unsigned>(params.tile_count));
  launch(queue, kKernel, ClusterSize{static_cast<unsigned>(blocks)}, grid, threads, 0, params);
  return true;
}

}  // namespace

bool attention_decode_early(const AttentionParams& params, Queue& queue) {
  const int64_t splits = params.max_splits * params.heads * params.tile_count;
  if (!queue.can_overlap || !params.rope.stores || params.max_splits > kMostSplits ||
      splits > queue.multiprocessors) {
    return false;
  }
  bool launched = false;
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim,
                          (launched = launch_early<T, kHeadDim>(params, queue)))
  return launched;
}

}  // namespace headrace::cuda
