#include "kernels/cuda/bulk_copy.cuh"

namespace headrace::cuda {
namespace {

constexpr int kSegmentChunks = 2;  // of a row, copied at a time
constexpr int kSegment = kSegmentChunks * kChunk;
constexpr int kFewestStages = 3;
constexpr int kQueueBytes = 160 << 10;  // of all warps: as much is on its way at any time

/// Adds the products of a segment: kBulkRows rows of weights, kSegment columns apart, with token rows of
/// x, `x_stride` columns apart. `columns` of them count; kWhole: all.
template <typename T, int kTokens, bool kWhole>
__device__ __forceinline__ void multiply_segment(const T* weights, const T* x, int x_stride,
                                                 int columns, int lane,
                                                 Partials<kTokens>& partials) {
#pragma unroll
  for (int c = 0; c < kSegmentChunks; ++c) {
    const int column = c * kChunk + lane * kLaneColumns;
    if (!kWhole && column >= columns) return;
    float w[kBulkRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < kBulkRows; ++r) load_widened<T>(weights + r * kSegment + column, w[r]);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float values[kLaneColumns];
      load_widened<T>(x + t * x_stride + column, values);
#pragma unroll
      for (int r = 0; r < kBulkRows; ++r) {
#pragma unroll
        for (int e = 0; e < kLaneColumns; ++e) {
          partials[r][t][e] = __fmaf_rn(w[r][e], values[e], partials[r][t][e]);
        }
      }
    }
  }
}

/// A block per multiprocessor; a warp multiplies kBulkRows rows with kTokens token rows at a time. Those
/// past the launch's tokens are whatever shared memory holds, and go nowhere.
template <typename T, int kTokens, int kWarps, bool kNorm>
__global__ void __launch_bounds__(kWarps * 32, 1)
    canonical_bulk_kernel(const __grid_constant__ BulkLaunch launch) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[kWarps][kMostStages];
  constexpr int kStage = kBulkRows * kSegment;  // elements
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  T* const queue = reinterpret_cast<T*>(shared) + warp * launch.stages * kStage;
  T* const x = reinterpret_cast<T*>(shared) + kWarps * launch.stages * kStage;
  Arrival* const arrived = arrivals[warp];
  allow_next();

  Segments<kSegment, kWarps> ahead(launch, warp);
  const auto copy_next = [&](int stage) {
    if (ahead.done()) return;
    if (lane == 0) {
      // Rows are padded to whole vectors, and k is whole vectors.
      const int bytes = min(kSegment, launch.k - ahead.column()) * static_cast<int>(sizeof(T));
      arrived[stage].expect(kBulkRows * bytes);
#pragma unroll
      for (int r = 0; r < kBulkRows; ++r) {
        arrived[stage].copy(queue + stage * kStage + r * kSegment,
                            ahead.row(r) + static_cast<int64_t>(ahead.column()) * sizeof(T), bytes);
      }
    }
    ahead.advance();
  };
  if (lane == 0) {
    for (int stage = 0; stage < launch.stages; ++stage) arrived[stage].init();
  }
  __syncwarp();
  for (int stage = 0; stage < launch.stages; ++stage) copy_next(stage);
  if constexpr (kNorm) {
    RowNorm<T> norm(launch.norm.weight, launch.k, static_cast<int>(threadIdx.x) % kNormThreads);
    wait_for_previous();
    finish_norm<T, kWarps * 32 / kNormThreads>(launch.norm, norm, x, launch.norm.width);
  } else {
    wait_for_previous();
    load_x<T, kWarps * 32>(launch, x, launch.k);
  }
  __syncthreads();

  int stage = 0;
  int phase = 0;
  Partials<kTokens> partials = {};
  for (Segments<kSegment, kWarps> here(launch, warp); !here.done(); here.advance()) {
    arrived[stage].wait(phase);
    const int columns = launch.k - here.column();
    const T* const weights = queue + stage * kStage;
    const T* const values = x + here.column();
    if (columns >= kSegment) {
      multiply_segment<T, kTokens, true>(weights, values, launch.k, columns, lane, partials);
    } else {
      multiply_segment<T, kTokens, false>(weights, values, launch.k, columns, lane, partials);
    }
    __syncwarp();  // all lanes have left the stage
    copy_next(stage);
    if (++stage == launch.stages) {
      stage = 0;
      phase ^= 1;
    }
    if (!here.last_of_group()) continue;
#pragma unroll
    for (int r = 0; r < kBulkRows; ++r) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float sum = tree_sum_of_warp(partials[r][t], lane);
        if (lane == 0 && here.first_row() + r < here.run().rows && t < launch.tokens) {
          store_product(here.run(), here.first_row() + r, t, sum);
        }
#pragma unroll
        for (int e = 0; e < kLaneColumns; ++e) partials[r][t][e] = 0.0f;
      }
    }
  }
}

template <typename T, int kTokens, int kWarps, bool kNorm>
bool launch_bulk(BulkLaunch launch, Queue& queue) {
  constexpr int kStageBytes = kWarps * kBulkRows * kSegment * static_cast<int>(sizeof(T));
  const int64_t x_bytes = static_cast<int64_t>(kTokens) * launch.k * sizeof(T);
  const int64_t room = queue.shared_bytes - kBulkStaticBytes - x_bytes;
  launch.stages = static_cast<int32_t>(
      std::min<int64_t>({kMostStages, kQueueBytes / kStageBytes, room / kStageBytes}));
  if (launch.stages < kFewestStages) return false;
  const auto kernel = canonical_bulk_kernel<T, kTokens, kWarps, kNorm>;
  static const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           queue.shared_bytes - kBulkStaticBytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  const int blocks = std::min(queue.multiprocessors, number_groups(launch, kBulkRows));
  const auto shared = static_cast<size_t>(launch.stages * kStageBytes + x_bytes);
  headrace::cuda::launch(queue, kernel, blocks, kWarps * 32, shared, launch);
  return true;
}

template <typename T>
bool launch_tokens(const BulkLaunch& launch, Queue& queue) {
  switch (launch.tokens) {
    case 1:
      return launch_bulk<T, 1, kManyWarps<T>, false>(launch, queue);
    case 2:
      return launch_bulk<T, 2, kManyWarps<T>, false>(launch, queue);
    case 3:
    case 4:
      return launch_bulk<T, 4, kManyWarps<T>, false>(launch, queue);
    default:  // as many registers a thread as there are
      return launch_bulk<T, 8, 8, false>(launch, queue);
  }
}

/// For as many token rows as a block norms at once.
template <typename T>
bool launch_normed(const BulkLaunch& launch, Queue& queue) {
  switch (launch.tokens) {
    case 1:
      return launch_bulk<T, 1, kManyWarps<T>, true>(launch, queue);
    case 2:
      if constexpr (kManyWarps<T> * 32 < 2 * kNormThreads) return false;
      return launch_bulk<T, 2, kManyWarps<T>, true>(launch, queue);
    default:
      return false;
  }
}

}  // namespace

bool canonical_matmul_bulk(const MatmulRuns& matmul, const NormRows* norm,
Queue& queue) {
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
