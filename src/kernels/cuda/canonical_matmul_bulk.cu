#include <algorithm>
#include <type_traits>

#include "kernels/cuda/bulk_copy.cuh"

namespace headrace::cuda {
namespace {

constexpr int kFewestStages = 2;
constexpr int kQueueBytes = 192 << 10;  // of all warps: as much is on its way while they multiply
constexpr int kGentleBytes = 64 << 10;  // as much before, if no norm comes first
constexpr int kStagesAhead = 2;         // that begin to fill before a norm's row is asked for

/// How a block shares the work.
template <typename Type, int kRowCount, int kTokenCount, int kWarpCount, int kChunks>
struct Shape {
  using T = Type;
  static constexpr int kRows = kRowCount;      // of a warp at a time
  static constexpr int kTokens = kTokenCount;  // rows past the launch's tokens go nowhere
  static constexpr int kWarps = kWarpCount;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kSegment = kChunks * kChunk;  // columns of a row, copied at a time
  static constexpr int kStage = kRows * kSegment;    // elements
  static constexpr int kBlockStageBytes = kWarps * kStage * static_cast<int>(sizeof(T));
};

/// The copies of a warp: segment by segment of each group of rows.
template <typename Shape>
class WeightQueue {
  using T = typename Shape::T;

 public:
  __device__ __forceinline__ WeightQueue(const BulkLaunch& launch, int warp, T* stages,
                                         Arrival* arrived)
      : k_(launch.k), stages_(stages), arrived_(arrived), ahead_(launch, warp) {
    begin_group();
  }
  /// Fills the stages with few copies under way at a time: other reads and writes, such as the last ones
  /// of the kernel before, queue behind them.
  __device__ __forceinline__ void fill_gently(int stages) {
    constexpr int kOnTheirWay =
        Shape::kBlockStageBytes < kGentleBytes ? kGentleBytes / Shape::kBlockStageBytes : 1;
#pragma unroll 1
    for (int stage = 0; stage < stages && !ahead_.done(); ++stage) {
      if (stage >= kOnTheirWay) arrived_[stage - kOnTheirWay].wait(0);
      copy_next(stage);
    }
  }
  __device__ __forceinline__ void copy_next(int stage) {
    if (ahead_.done()) return;
    // Rows are padded to whole vectors, and k is whole vectors.
    const int bytes = min(Shape::kSegment, left_) * static_cast<int>(sizeof(T));
    if (elect_thread()) {
      arrived_[stage].expect(Shape::kRows * bytes);
#pragma unroll
      for (int r = 0; r < Shape::kRows; ++r) {
        arrived_[stage].copy(stages_ + stage * Shape::kStage + r * Shape::kSegment,
                             from_ + rows_.offset(r), bytes);
      }
    }
    from_ += bytes;
    left_ -= Shape::kSegment;
    if (left_ > 0) return;
    ahead_.advance();
    begin_group();
  }

 private:
  __device__ __forceinline__ void begin_group() {
    if (ahead_.done()) return;
    rows_ = ahead_.rows();
    from_ = rows_.first;
    left_ = k_;
  }

  const int k_;
  T* const stages_;
  Arrival* const arrived_;
  RowGroups<Shape::kRows, Shape::kWarps> ahead_;
  GroupRows rows_;
  const std::byte* from_ = nullptr;  // of the first row
  int left_ = 0;                     // columns
};

/// Adds the products of a segment with token rows of x, `x_stride` columns apart. `columns` of them
/// count; kWhole: all.
template <typename Shape, bool kWhole>
__device__ __forceinline__ void multiply_segment(
    const typename Shape::T* weights, const typename Shape::T* x, int x_stride, int columns, int lane,
    Partials<Shape::kRows, Shape::kTokens>& partials) {
  using T = typename Shape::T;
#pragma unroll
  for (int c = 0; c < Shape::kSegment / kChunk; ++c) {
    const int column = c * kChunk + lane * kLaneColumns;
    if (!kWhole && column >= columns) return;
    float w[Shape::kRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) {
      load_widened<T>(weights + r * Shape::kSegment + column, w[r]);
    }
    add_products<T, Shape::kRows, Shape::kTokens>(w, x + column, x_stride, partials);
  }
}

/// A block per multiprocessor. Of one token row it leaves 25 KiB of shared memory and, at up to 96
/// registers a thread, 160 for as many threads: attention_decode_early.cu runs beside it.
template <typename Shape, bool kNorm>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    canonical_bulk_kernel(const __grid_constant__ BulkLaunch launch) {
  using T = typename Shape::T;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[Shape::kWarps][kMostStages];
  __shared__ Arrival x_arrival;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = warp_of_block();
  T* const stages = reinterpret_cast<T*>(shared) + warp * launch.stages * Shape::kStage;
  T* const x = reinterpret_cast<T*>(shared) + Shape::kWarps * launch.stages * Shape::kStage;
  Arrival* const arrived = arrivals[warp];
  allow_next();
  if (threadIdx.x == 0) x_arrival.init();
  init_arrivals(arrived, launch.stages, lane);
  WeightQueue<Shape> queue(launch, warp, stages, arrived);
  if constexpr (kNorm) {
    LaunchNorm<T, Shape::kThreads / kNormThreads> norm(launch.norm);
    const int ahead = min(kStagesAhead, launch.stages);
#pragma unroll 1
    for (int stage = 0;; ++stage) {  // one place that copies: the code is short, as RowNorm's
      if (stage == ahead) {
        wait_for_previous();
        norm.read();
      }
      if (stage == launch.stages) break;
      queue.copy_next(stage);
    }
    norm.finish(x, launch.k);
  } else {
    queue.fill_gently(launch.stages);
    wait_for_previous();
    if (threadIdx.x == 0) copy_x(launch, x, launch.k, x_arrival);
    __syncthreads();
    x_arrival.wait(0);
  }

  int stage = 0;
  int phase = 0;
  for (RowGroups<Shape::kRows, Shape::kWarps> here(launch, warp); !here.done(); here.advance()) {
    Partials<Shape::kRows, Shape::kTokens> partials = {};
    for (int begin = 0; begin < launch.k; begin += Shape::kSegment) {
      arrived[stage].wait(phase);
      const int columns = launch.k - begin;
      const T* const weights = stages + stage * Shape::kStage;
      if (columns >= Shape::kSegment) {
        multiply_segment<Shape, true>(weights, x + begin, launch.k, columns, lane, partials);
      } else {
        multiply_segment<Shape, false>(weights, x + begin, launch.k, columns, lane, partials);
      }
      __syncwarp();  // all lanes have left the stage
      queue.copy_next(stage);
      if (++stage == launch.stages) {
        stage = 0;
        phase ^= 1;
      }
    }
    store_sums<Shape::kRows, Shape::kTokens>(partials, here.run(), here.first_row(), launch.tokens,
                                             lane);
  }
}

template <typename Shape, bool kNorm>
bool launch_bulk(BulkLaunch launch, Queue& queue) {
  constexpr int kStageBytes = Shape::kBlockStageBytes;
  const int64_t x_bytes =
      static_cast<int64_t>(Shape::kTokens) * launch.k * sizeof(typename Shape::T);
  const int64_t room = queue.shared_bytes - kBulkStaticBytes - x_bytes;
  launch.stages = static_cast<int32_t>(
      std::min<int64_t>({kMostStages, kQueueBytes / kStageBytes, room / kStageBytes}));
  if (launch.stages < kFewestStages) return false;
  launch_bulk_kernel<Shape, canonical_bulk_kernel<Shape, kNorm>>(
      launch, static_cast<size_t>(launch.stages * kStageBytes + x_bytes), queue);
  return true;
}

/// 64 KiB a stage of all warps. (Two token rows' norms take more threads, of 16-bit types.)
template <typename T, int kTokens>
using FewTokens = std::conditional_t<kTokens == 2 && sizeof(T) == 2, Shape<T, 2, kTokens, 16, 4>,
                                     Shape<T, 4, kTokens, 8, 8 / sizeof(T)>>;

template <typename T>
bool launch_tokens(const BulkLaunch& launch, Queue& queue) {
  switch (launch.tokens) {
    case 1:
      return launch_bulk<FewTokens<T, 1>, false>(launch, queue);
    case 2:
      return launch_bulk<FewTokens<T, 2>, false>(launch, queue);
    case 3:
    case 4:
      return launch_bulk<Shape<T, 4, 4, 8, 2>, false>(launch, queue);
    default:  // long segments cost least, but long rows of x leave no room for them
      return launch_bulk<Shape<T, 2, 8, 8, 8 / sizeof(T)>, false>(launch, queue) ||
             launch_bulk<Shape<T, 2, 8, 8, 4 / sizeof(T)>, false>(launch, queue);
  }
}

/// For as many token rows as a block norms at once.
template <typename T>
bool launch_normed(const BulkLaunch& launch, Queue& queue) {
  switch (launch.tokens) {
    case 1:
      return launch_bulk<FewTokens<T, 1>, true>(launch, queue);
    case 2:
      if constexpr (FewTokens<T, 2>::kThreads < 2 * kNormThreads) return false;
      return launch_bulk<FewTokens<T, 2>, true>(launch, queue);
    default:
      return false;
  }
}

}  // namespace

bool canonical_matmul_bulk(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  if (!queue.can_overlap || matmul.k % kLaneColumns != 0 ||
      matmul.x_stride_bytes % sizeof(uint4) != 0 || matmul.tokens > kMostLaunchTokens) {
    return false;
  }
  auto launch = launch_of<BulkLaunch>(matmul);
  bool launched = false;
  if (norm == nullptr) {
    HR_DISPATCH_DTYPE(matmul.dtype, T, launched = launch_tokens<T>(launch, queue))
  } else {
    launch.norm = *norm;
    HR_DISPATCH_DTYPE(matmul.dtype, T, launched = launch_normed<T>(launch, queue))
  }
  return launched;
}

}  // namespace headrace::cuda
