#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_matrix.cuh"
#include "kernels/cuda/row_rotation.cuh"

namespace headrace::cuda {
namespace {

// A block is one warp, and attends for one token row and up to eight heads that share K and V: they are
// the columns on the right of products whose left sides are 16 positions of K, or 16 dimensions of V.
// K and V of a step pass through shared memory as chunks of 4 KiB in a queue that does not drain
// between steps: first K, some dimensions of all positions at a time; then V, some positions of all
// dimensions at a time. Scores and weights stay in registers.
constexpr int kWarp = 32;
constexpr int kMostHeads = 8;
constexpr int kChunkBytes = 4096;
constexpr int kStages = 6;       // chunks in shared memory where eight blocks share a multiprocessor,
constexpr int kMoreStages = 24;  // and where two do
constexpr int kGroup = 16;       // positions or dimensions of a product
constexpr int kStepGroups = kStep / kGroup;

template <typename T, int kHeadDim>
struct Chunks {
  static constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));  // elements
  static constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(T));
  static constexpr int kKDims = kElements / kStep;
  static constexpr int kOfK = kHeadDim / kKDims;
  static constexpr int kVPositions = kElements / kHeadDim;
  static constexpr int kOfV = kStep / kVPositions;
  static constexpr int kOfStep = kOfK + kOfV;
};

/// K and V of the row itself, which may not be in the cache yet.
template <typename T, int kHeadDim>
struct OwnRow {
  T k[kHeadDim];
  T v[kHeadDim];
};

/// The block's row and heads.
template <typename T, int kHeadDim>
struct Unit {
  static constexpr int kHalf = kHeadDim / 2;

  int64_t row;
  int64_t head;  // the first of its heads
  int64_t kv_head;
  int heads;
  bool first;  // of those that share K and V: it stores them
  int context;
  HeadCache<T, kHeadDim> cache;

  __device__ Unit(const AttentionParams& params, const RowTile& tile, int64_t group, int64_t part)
      : row(tile.row_begin),
        head(blockIdx.x * group + part * kMostHeads),
        kv_head(blockIdx.x),
        heads(static_cast<int>(min(static_cast<int64_t>(kMostHeads), group - part * kMostHeads))),
        first(part == 0),
        context(tile.position + 1),
        cache(params, tile, static_cast<int>(head)) {}

  __device__ __forceinline__ RowRotation rotation(const FusedRope& rope, int d) const {
    return {.cos = rope.cos[row * kHalf + d], .sin = rope.sin[row * kHalf + d]};
  }

  /// Q of the block's heads, rotated, as right sides of 16 dimensions each.
  __device__ __forceinline__ void load_q(const AttentionParams& params,
                                         SplitRight (&q)[kHeadDim / kGroup]) const {
    const int own_head = static_cast<int>(threadIdx.x) / 4;
    const bool present = own_head < heads;
    const float* const x =
        params.qkv + row * params.qkv_stride + (head + (present ? own_head : 0)) * kHeadDim;
#pragma unroll
    for (int j = 0; j < kHalf / kGroup; ++j) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const int d = kGroup * j + 8 * u + static_cast<int>(threadIdx.x) % 4 * 2;
        float2 pairs[2] = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (present) pairs[i] = make_float2(x[d + i], x[d + i + kHalf]);
          if (params.rope.cos != nullptr) pairs[i] = rotation(params.rope, d + i).of(pairs[i]);
        }
        SplitRight& upper = q[j + kHalf / kGroup];
        split_pair<T>(pairs[0].x, pairs[1].x, q[j].high[u], q[j].low[u]);
        split_pair<T>(pairs[0].y, pairs[1].y, upper.high[u], upper.low[u]);
      }
    }
  }

  /// Rotates the row's K, takes its V, and stores both in the cache.
  __device__ __forceinline__ void store_own(const AttentionParams& params,
                                            OwnRow<T, kHeadDim>& own) const {
    const float* const k = params.qkv + row * params.qkv_stride + (params.heads + kv_head) * kHeadDim;
    const float* const v = k + params.kv.kv_heads * kHeadDim;
    T* const k_out = const_cast<T*>(cache.k_at(context - 1));
    T* const v_out = const_cast<T*>(cache.v_at(context - 1));
#pragma unroll
    for (int i = 0; i < kHalf / kWarp; ++i) {
      const int d = i * kWarp + static_cast<int>(threadIdx.x);
      const float2 pair = rotation(params.rope, d).of(make_float2(k[d], k[d + kHalf]));
      own.k[d] = round_to<T>(pair.x);
      own.k[d + kHalf] = round_to<T>(pair.y);
      own.v[d] = round_to<T>(v[d]);
      own.v[d + kHalf] = round_to<T>(v[d + kHalf]);
      if (!first) continue;
      k_out[cache.k_dim(d)] = own.k[d];
      k_out[cache.k_dim(d + kHalf)] = own.k[d + kHalf];
      v_out[d] = own.v[d];
      v_out[d + kHalf] = own.v[d + kHalf];
    }
    __syncwarp();
  }
};

/// Begins the copies of one chunk after the other. In shared memory, chunks are lines of positions
/// of K, and of dimensions of V, swizzled.
template <typename T, int kHeadDim>
class ChunkCopies {
  using C = Chunks<T, kHeadDim>;

 public:
  __device__ ChunkCopies(const HeadCache<T, kHeadDim>& cache, int context)
      : cache_(cache), context_(context) {
    const int lane = static_cast<int>(threadIdx.x);
    k_column_ = lane % kKLineVectors * C::kVector;
    v_column_ = lane % kVLineVectors * C::kVector;
    k_line_ = lane / kKLineVectors;
    v_line_ = lane / kVLineVectors;
    next_block_ = block_of(0);
  }

  /// Chunks of a step have to be taken in order, and steps too. Past the context it does nothing.
  __device__ __forceinline__ void begin(int step, int chunk, unsigned stage) {
    if (step * kStep >= context_) return;
    if (chunk == 0) begin_step(step);
    if (chunk < C::kOfK) {
      copy_k(step * kStep, stage);
    } else {
      copy_v(step * kStep, (chunk - C::kOfK) * C::kVPositions, stage);
    }
  }

 private:
  static constexpr int kKLineVectors = kStep / C::kVector;
  static constexpr int kVLineVectors = kHeadDim / C::kVector;
  static constexpr int kKLines = kWarp / kKLineVectors;  // at once
  static constexpr int kVLines = kWarp / kVLineVectors;
  static constexpr int kTogether = C::kVector;  // so many positions are of one block of the cache

  /// The block of the cache that holds the lane's positions of K; 0 past the context.
  __device__ __forceinline__ int block_of(int step) const {
    const int position = step * kStep + k_column_;
    return position < context_ ? cache_.table[position >> cache_.block_shift] : 0;
  }
  __device__ __forceinline__ void begin_step(int step) {
    block_ = next_block_;
    next_block_ = block_of(step + 1);
    k_from_ = cache_.k + block_ * cache_.block_stride + cache_.in_block(step * kStep + k_column_) +
              cache_.k_dim(k_line_);
  }
  __device__ __forceinline__ void copy_k(int begin, unsigned stage) {
    const int64_t next = cache_.k_dim(kKLines);
    const bool seen = begin + k_column_ < context_;
#pragma unroll
    for (int i = 0; i < C::kKDims / kKLines; ++i) {
      const int place = swizzled(i * kKLines % 8 + k_line_, k_column_) + k_line_ * kStep;
      if (seen) copy_vector(stage + (place + i * kKLines * kStep) * sizeof(T), k_from_);
      k_from_ += next;
    }
  }
  /// Zeros for positions that the row does not see.
  __device__ __forceinline__ void copy_v(int begin, int first, unsigned stage) const {
#pragma unroll
    for (int t = first; t < first + C::kVPositions; t += kTogether) {
      const int block = __shfl_sync(0xffffffffu, block_, t / kTogether);
      const T* const from = cache_.v + block * cache_.block_stride +
                            (cache_.in_block(begin + t) + v_line_) * kHeadDim + v_column_;
#pragma unroll
      for (int i = 0; i < kTogether / kVLines; ++i) {
        const int place = swizzled(i * kVLines + v_line_, v_column_) + v_line_ * kHeadDim;
        const int line = t - first + i * kVLines;
        copy_vector(stage + (place + line * kHeadDim) * sizeof(T), from + i * kVLines * kHeadDim,
                    begin + t + i * kVLines + v_line_ < context_);
      }
    }
  }

  const HeadCache<T, kHeadDim>& cache_;
  const int context_;
  int k_column_;  // the lane's first element of a line
  int v_column_;
  int k_line_;  // the lane's first line
  int v_line_;
  int block_ = 0;
  int next_block_;
  const T* k_from_ = nullptr;
};

/// sums[n] += left n x right, for kCount left sides that lie beside each other, transposed, in 16
/// swizzled lines of kLine numbers from `lines` on. First all high parts, then all low ones, so that
/// a product need not wait for the last.
template <typename T, int kLine, int kCount>
__device__ __forceinline__ void multiply_add_lines(float (*sums)[4], unsigned lines,
                                                   const SplitRight& right) {
  const int lane = static_cast<int>(threadIdx.x);
  const int line = lane % 8 + lane / 16 * 8;
  const int column = lane / 8 % 2 * 8;
  LeftFragment left[kCount];
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
    // Bits above those that are swizzled are added, so that four places serve all.
    const int place = swizzled(line, column + n % 4 * kGroup) + n / 4 * 4 * kGroup;
    load_left_transposed<T>(lines + (line * kLine + place) * sizeof(T), left[n]);
  }
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_add<T>(sums[n], left[n], right.high);
#pragma unroll
  for (int n = 0; n < kCount; ++n) multiply_add<T>(sums[n], left[n], right.low);
}

/// What the steps so far came to: a lane has two heads, 2q and 2q + 1, and of each 16 dimensions g and
/// g + 8 (tensor_core.cuh).
template <int kGroups>
struct HeadSums {
  float max[2];
  float weighted[kGroups][4];
  float sum[4];  // of weights: twice the same two

  __device__ __forceinline__ void clear() {
    max[0] = max[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[i] = 0.0f;
#pragma unroll
      for (int n = 0; n < kGroups; ++n) weighted[n][i] = 0.0f;
    }
  }
  /// `next` is the largest score up to the next step.
  __device__ __forceinline__ void raise_max(const float (&next)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float keep = canonical_exp(__fsub_rn(max[i], next[i]));
      max[i] = next[i];
#pragma unroll
      for (int u = i; u < 4; u += 2) {
        sum[u] = __fmul_rn(keep, sum[u]);
#pragma unroll
        for (int n = 0; n < kGroups; ++n) weighted[n][u] = __fmul_rn(keep, weighted[n][u]);
      }
    }
  }
  template <typename T>
  __device__ __forceinline__ void add_weights(const SplitRight& weights) {
    const unsigned one = packed(round_to<T>(1.0f), round_to<T>(1.0f));
    const LeftFragment ones = {{one, one, one, one}};
    multiply_add<T>(sum, ones, weights.high);
    multiply_add<T>(sum, ones, weights.low);
  }
};

/// Turns the step's dot products into scores; of the first `count` positions. Raises `max` to the
/// largest.
__device__ __forceinline__ void scores_of(float (&dots)[kStepGroups][4], float scale, int count,
                                          float (&max)[2]) {
  const int first = static_cast<int>(threadIdx.x) / 4;
#pragma unroll
  for (int n = 0; n < kStepGroups; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool seen = kGroup * n + i / 2 * 8 + first < count;
      dots[n][i] = seen ? __fmul_rn(dots[n][i], scale) : -INFINITY;
      max[i % 2] = larger(max[i % 2], dots[n][i]);
    }
  }
#pragma unroll
  for (int s = 16; s >= 4; s /= 2) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      max[i] = larger(max[i], __shfl_xor_sync(0xffffffffu, max[i], s));
    }
  }
}

/// Turns scores into weights, as right sides of 16 positions each.
template <typename T>
__device__ __forceinline__ void weights_of(const float (&scores)[kStepGroups][4],
                                           const float (&max)[2], SplitRight (&p)[kStepGroups]) {
#pragma unroll
  for (int n = 0; n < kStepGroups; ++n) {
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      unsigned high = 0;
      unsigned low = 0;
      split_pair<T>(canonical_exp(__fsub_rn(scores[n][2 * u], max[0])),
                    canonical_exp(__fsub_rn(scores[n][2 * u + 1], max[1])), high, low);
      p[n].high[u] = transposed(high);
      p[n].low[u] = transposed(low);
    }
  }
}

/// A block per (K and V head, eight of its heads, tile of one row).
template <typename T, int kHeadDim, int kStages>
__global__ void __launch_bounds__(kWarp) attention_decode_matrix_kernel(AttentionParams params) {
  using C = Chunks<T, kHeadDim>;
  extern __shared__ uint4 stage_vectors[];
  __shared__ OwnRow<T, kHeadDim> own;
  allow_next();
  const int lane = static_cast<int>(threadIdx.x);
  const Unit<T, kHeadDim> unit(params, params.tiles[blockIdx.z], params.heads / params.kv.kv_heads,
                               blockIdx.y);
  ChunkCopies<T, kHeadDim> copies(unit.cache, unit.context);
  const auto stages = static_cast<unsigned>(__cvta_generic_to_shared(stage_vectors));
  int filled = 0;  // the stage that the next chunk goes to
  const auto copy = [&](int step, int chunk) {
    copies.begin(step, chunk, stages + filled * kChunkBytes);
    filled = filled + 1 == kStages ? 0 : filled + 1;
    end_copies_of_stage();
  };
  const auto copy_first = [&] {
#pragma unroll
    for (int n = 0; n < kStages - 1; ++n) copy(n / C::kOfStep, n % C::kOfStep);
  };
  if (params.rope.stores) copy_first();
  wait_for_previous();
  if (!params.rope.stores) copy_first();
  // The step that sees the row's own position takes it from here.
  const int own_position = params.rope.stores ? unit.context - 1 : -1;
  if (params.rope.stores) unit.store_own(params, own);
  SplitRight q[kHeadDim / kGroup];
  unit.load_q(params, q);

  HeadSums<kHeadDim / kGroup> sums;
  sums.clear();
  int taken = 0;
  // The next chunk, once it is there; the one before is left to a chunk that comes kStages later.
  const auto next = [&](int step, int chunk) {
    wait_for_copies<kStages - 2>();
    __syncwarp();
    copy(step + (chunk + kStages - 1) / C::kOfStep, (chunk + kStages - 1) % C::kOfStep);
    const int at = taken;
    taken = taken + 1 == kStages ? 0 : taken + 1;
    return at * kChunkBytes;
  };
  const auto put_own = [&](int offset, int place, T value) {
    reinterpret_cast<T*>(reinterpret_cast<std::byte*>(stage_vectors) + offset)[place] = value;
  };
  for (int step = 0; step * kStep < unit.context; ++step) {
    const int own_at = own_position - step * kStep;  // negative, or past the step: not here
    const bool has_own = 0 <= own_at && own_at < kStep;
    float dots[kStepGroups][4] = {};
#pragma unroll
    for (int chunk = 0; chunk < C::kOfK; ++chunk) {
      const int stage = next(step, chunk);
      if (has_own) {
#pragma unroll
        for (int i = 0; i < C::kKDims / kWarp; ++i) {
          const int d = i * kWarp + lane;
          put_own(stage, d * kStep + swizzled(d, own_at), own.k[chunk * C::kKDims + d]);
        }
        __syncwarp();
      }
#pragma unroll
      for (int d = 0; d < C::kKDims; d += kGroup) {
        multiply_add_lines<T, kStep, kStepGroups>(dots, stages + stage + d * kStep * sizeof(T),
                                                  q[(chunk * C::kKDims + d) / kGroup]);
      }
    }
    float max[2] = {sums.max[0], sums.max[1]};
    scores_of(dots, params.scale, unit.context - step * kStep, max);
    sums.raise_max(max);
    SplitRight p[kStepGroups];
    weights_of<T>(dots, max, p);
#pragma unroll
    for (int chunk = 0; chunk < C::kOfV; ++chunk) {
      const int stage = next(step, C::kOfK + chunk);
      const int own_line = own_at - chunk * C::kVPositions;
      if (has_own && 0 <= own_line && own_line < C::kVPositions) {
#pragma unroll
        for (int i = 0; i < kHeadDim / kWarp; ++i) {
          const int d = i * kWarp + lane;
          put_own(stage, own_line * kHeadDim + swizzled(own_line, d), own.v[d]);
        }
        __syncwarp();
      }
#pragma unroll
      for (int t = 0; t < C::kVPositions; t += kGroup) {
        const SplitRight& weights = p[(chunk * C::kVPositions + t) / kGroup];
        sums.template add_weights<T>(weights);
        multiply_add_lines<T, kHeadDim, kHeadDim / kGroup>(
            sums.weighted, stages + stage + t * kHeadDim * sizeof(T), weights);
      }
    }
  }
  T* const out =
      reinterpret_cast<T*>(params.out) + (unit.row * params.heads + unit.head) * kHeadDim;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int head = lane % 4 * 2 + i % 2;
    if (head >= unit.heads) continue;
#pragma unroll
    for (int n = 0; n < kHeadDim / kGroup; ++n) {
      out[head * kHeadDim + kGroup * n + i / 2 * 8 + lane / 4] =
          round_to<T>(__fdiv_rn(sums.weighted[n][i], sums.sum[i]));
    }
  }
}

template <typename T, int kHeadDim>
void launch_decode(const AttentionParams& params, Queue& queue) {
  constexpr int64_t kFewBlocks = 256;
  const int64_t group = params.heads / params.kv.kv_heads;
  const dim3 grid(static_cast<unsigned>(params.kv.kv_heads),
                  static_cast<unsigned>((group + kMostHeads - 1) / kMostHeads),
                  static_cast<unsigned>(params.tile_count));
  const bool few = static_cast<int64_t>(grid.x) * grid.y * grid.z <= kFewBlocks;
  if (few && launch_attention<attention_decode_matrix_kernel<T, kHeadDim, kMoreStages>>(
                 grid, kWarp, kMoreStages * kChunkBytes, params, queue)) {
    return;
  }
  launch_attention<attention_decode_matrix_kernel<T, kHeadDim, kStages>>(
      grid, kWarp, kStages * kChunkBytes, params, queue);  // fits every device
}

}  // namespace

void attention_decode_matrix(const AttentionParams& params, Queue& queue) {
  HR_DISPATCH_SPECIALIZED(params.kv, T, kHeadDim, (launch_decode<T, kHeadDim>(params, queue)))
}

}  // namespace headrace::cuda
