#include <algorithm>

#include "kernels/cuda/canonical_matmul.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_norm.cuh"

namespace headrace::cuda {
namespace {

// Weights reach shared memory by bulk copies (sm_90), a queue of its own per warp. The queues fill
// before the kernel waits for the one before it, so that memory does not rest while small kernels
// run between the products of a pass.
constexpr int kRows = 2;           // of a warp at a time
constexpr int kSegmentChunks = 2;  // of a row, copied at a time
constexpr int kSegment = kSegmentChunks * kChunk;
constexpr int kMostStages = 8;
constexpr int kFewestStages = 3;
constexpr int kQueueBytes = 160 << 10;  // of all warps: as much is on its way at any time

struct BulkLaunch {
  MatmulRun runs[kMaxRunsPerLaunch];
  int32_t first_group[kMaxRunsPerLaunch + 1];  // run i takes groups [first_group[i], ...[i + 1])
  int32_t run_count;
  const std::byte* x;
  int64_t x_stride_bytes;
  int32_t tokens;
  int32_t k;
  int32_t stages;
  NormRows norm;  // of kernels that begin with one
};

/// Says when a stage's copies have arrived. Its functions do nothing before sm_90, where the kernel
/// is not launched.
struct Arrival {
  uint64_t barrier;

  __device__ __forceinline__ void init() {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&barrier)));
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  __device__ __forceinline__ void expect(int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(&barrier)),
                 "r"(bytes)
                 : "memory");
#endif
  }
  __device__ __forceinline__ void copy(void* to, const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(&barrier))
        : "memory");
#endif
  }
  __device__ __forceinline__ void wait(int phase) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(phase)
        : "memory");
#endif
  }

#if __CUDA_ARCH__ >= 900
  static __device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
  }
#endif
};

/// The row groups of one warp, segment by segment.
template <typename T, int kWarps>
class Segments {
 public:
  __device__ Segments(const BulkLaunch& launch, int warp)
      : launch_(launch),
        segments_((launch.k + kSegment - 1) / kSegment),
        group_(static_cast<int>(blockIdx.x) + warp * static_cast<int>(gridDim.x)) {
    find_run();
  }
  __device__ __forceinline__ bool done() const { return group_ >= groups(); }
  __device__ __forceinline__ void advance() {
    if (++segment_ < segments_) return;
    segment_ = 0;
    group_ += static_cast<int>(gridDim.x) * kWarps;
    find_run();
  }
  __device__ __forceinline__ bool last_of_group() const { return segment_ + 1 == segments_; }
  __device__ __forceinline__ int column() const { return segment_ * kSegment; }
  __device__ __forceinline__ const MatmulRun& run() const { return launch_.runs[run_]; }
  __device__ __forceinline__ int first_row() const {
    return (group_ - launch_.first_group[run_]) * kRows;
  }
  /// Rows are padded to whole vectors, and k is whole vectors.
  __device__ __forceinline__ int bytes() const {
    return min(kSegment, launch_.k - column()) * static_cast<int>(sizeof(T));
  }
  __device__ __forceinline__ const std::byte* weights(int r) const {
    const int row = min(first_row() + r, run().rows - 1);
    return run().weights + static_cast<int64_t>(row) * run().row_stride_bytes +
           static_cast<int64_t>(column()) * sizeof(T);
  }

 private:
  __device__ __forceinline__ int groups() const { return launch_.first_group[launch_.run_count]; }
  __device__ __forceinline__ void find_run() {
    while (run_ + 1 < launch_.run_count && launch_.first_group[run_ + 1] <= group_) ++run_;
  }

  const BulkLaunch& launch_;
  const int segments_;
  int group_;
  int run_ = 0;
  int segment_ = 0;
};

template <typename T>
__device__ __forceinline__ void load_widened(const T* from, float (&out)[kLaneColumns]) {
  constexpr int kVectors = kLaneColumns * sizeof(T) / sizeof(uint4);
  uint4 vectors[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) vectors[v] = reinterpret_cast<const uint4*>(from)[v];
  widen8<T>(vectors, out);
}

/// Copies the launch's token rows to shared memory, k columns each.
template <typename T, int kThreads>
__device__ __forceinline__ void load_x(const BulkLaunch& launch, T* x) {
  const int row_bytes = launch.k * static_cast<int>(sizeof(T));
  const int row_vectors = row_bytes / static_cast<int>(sizeof(uint4));
  for (int t = 0; t < launch.tokens; ++t) {
    const std::byte* const row = launch.x + t * launch.x_stride_bytes;
    auto* const to = reinterpret_cast<uint4*>(x + t * launch.k);
#pragma unroll 4
    for (int i = threadIdx.x; i < row_vectors; i += kThreads) {
      to[i] = load_written(row + static_cast<int64_t>(i) * sizeof(uint4));
    }
  }
}

/// The launch's norm, into shared memory; the first block's is what others will read.
template <typename T, int kTokens>
__device__ __forceinline__ void finish_norm(const NormRows& rows, RowNorm<T>& norm, T* x) {
  __shared__ float partials[kTokens][kNormThreads];
  const int token = static_cast<int>(threadIdx.x) / kNormThreads;
  const int64_t begin = token * rows.width;
  // With fewer token rows than threads for them, the last of the threads have none.
  norm.read(token < rows.tokens ? rows.x + begin : nullptr, rows.epsilon, partials[token]);
  norm.write([&](int i, T value) {
    x[begin + i] = value;
    if (blockIdx.x == 0) reinterpret_cast<T*>(rows.out)[begin + i] = value;
  });
}

template <int kTokens>
using Partials = float[kRows][kTokens][kLaneColumns];

/// Adds the products of a segment: kRows rows of weights, kSegment columns apart, with token rows of
/// x, `x_stride` columns apart. `columns` of them count; kWhole: all.
template <typename T, int kTokens, bool kWhole>
__device__ __forceinline__ void multiply_segment(const T* weights, const T* x, int x_stride,
                                                 int columns, int lane,
                                                 Partials<kTokens>& partials) {
#pragma unroll
  for (int c = 0; c < kSegmentChunks; ++c) {
    const int column = c * kChunk + lane * kLaneColumns;
    if (!kWhole && column >= columns) return;
    float w[kRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < kRows; ++r) load_widened<T>(weights + r * kSegment + column, w[r]);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      float values[kLaneColumns];
      load_widened<T>(x + t * x_stride + column, values);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int e = 0; e < kLaneColumns; ++e) {
          partials[r][t][e] = __fmaf_rn(w[r][e], values[e], partials[r][t][e]);
        }
      }
    }
  }
}

/// A block per multiprocessor; a warp multiplies kRows rows with kTokens token rows at a time. Those
/// past the launch's tokens are whatever shared memory holds, and go nowhere.
template <typename T, int kTokens, int kWarps, bool kNorm>
__global__ void __launch_bounds__(kWarps * 32, 1)
    canonical_bulk_kernel(const __grid_constant__ BulkLaunch launch) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ Arrival arrivals[kWarps][kMostStages];
  constexpr int kStage = kRows * kSegment;  // elements
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  T* const queue = reinterpret_cast<T*>(shared) + warp * launch.stages * kStage;
  T* const x = reinterpret_cast<T*>(shared) + kWarps * launch.stages * kStage;
  Arrival* const arrived = arrivals[warp];
  allow_next();

  Segments<T, kWarps> ahead(launch, warp);
  const auto copy_next = [&](int stage) {
    if (ahead.done()) return;
    if (lane == 0) {
      const int bytes = ahead.bytes();
      arrived[stage].expect(kRows * bytes);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        arrived[stage].copy(queue + stage * kStage + r * kSegment, ahead.weights(r), bytes);
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
    finish_norm<T, kWarps * 32 / kNormThreads>(launch.norm, norm, x);
  } else {
    wait_for_previous();
    load_x<T, kWarps * 32>(launch, x);
  }
  __syncthreads();

  int stage = 0;
  int phase = 0;
  Partials<kTokens> partials = {};
  for (Segments<T, kWarps> here(launch, warp); !here.done(); here.advance()) {
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
    for (int r = 0; r < kRows; ++r) {
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
  constexpr int kStageBytes = kWarps * kRows * kSegment * static_cast<int>(sizeof(T));
  constexpr int kStaticBytes = 4096;  // barriers, sums and the system's own
  const int64_t x_bytes = static_cast<int64_t>(kTokens) * launch.k * sizeof(T);
  const int64_t room = queue.shared_bytes - kStaticBytes - x_bytes;
  launch.stages = static_cast<int32_t>(
      std::min<int64_t>({kMostStages, kQueueBytes / kStageBytes, room / kStageBytes}));
  if (launch.stages < kFewestStages) return false;
  const auto kernel = canonical_bulk_kernel<T, kTokens, kWarps, kNorm>;
  static const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           queue.shared_bytes - kStaticBytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  const int blocks = std::min(queue.multiprocessors, number_groups(launch, kRows));
  const auto shared = static_cast<size_t>(launch.stages * kStageBytes + x_bytes);
  headrace::cuda::launch(queue, kernel, blocks, kWarps * 32, shared, launch);
  return true;
}

/// Warps of a block for few token rows: stages of all of them must fit in the queue.
template <typename T>
constexpr int kManyWarps = sizeof(T) == 2 ? 16 : 8;

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
