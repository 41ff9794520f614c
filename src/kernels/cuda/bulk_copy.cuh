#pragma once

#include <algorithm>

#include "kernels/cuda/arrival.cuh"
#include "kernels/cuda/canonical_matmul.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_norm.cuh"

/// What the canonical products share whose weights reach shared memory by bulk copies (sm_90), a queue
/// of its own per warp. The queues begin to fill before the kernel waits for the one before it, so that
/// memory does not rest while small kernels run between the products of a pass.
namespace headrace::cuda {

inline constexpr int kMostStages = 8;
inline constexpr int kBulkStaticBytes = 4096;  // barriers, sums and the system's own

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

/// Makes the warp's arrivals, for as many stages.
__device__ __forceinline__ void init_arrivals(Arrival* arrived, int stages, int lane) {
  if (lane < stages) arrived[lane].init();
  __syncwarp();
}

/// Where the rows of a group are. Of the last group's some may be past the end: the last row stands for
/// them.
struct GroupRows {
  const std::byte* first = nullptr;
  int stride_bytes = 0;  // a row's k elements fit in shared memory
  int last = 0;          // row of the run, from the first on; may be past the group

  __device__ __forceinline__ int64_t offset(int r) const {
    return static_cast<int64_t>(min(r, last)) * stride_bytes;
  }
};

/// The groups of kRows rows of one warp.
template <int kRows, int kWarps>
class RowGroups {
 public:
  __device__ __forceinline__ RowGroups(const BulkLaunch& launch, int warp)
      : launch_(launch),
        group_(static_cast<int>(blockIdx.x) + warp * static_cast<int>(gridDim.x)) {
    find_run();
  }
  __device__ __forceinline__ bool done() const {
    return group_ >= launch_.first_group[launch_.run_count];
  }
  __device__ __forceinline__ void advance() {
    group_ += static_cast<int>(gridDim.x) * kWarps;
    find_run();
  }
  __device__ __forceinline__ const MatmulRun& run() const { return launch_.runs[run_]; }
  __device__ __forceinline__ int first_row() const {
    return (group_ - launch_.first_group[run_]) * kRows;
  }
  __device__ __forceinline__ GroupRows rows() const {
    return {run().weights + first_row() * run().row_stride_bytes,
            static_cast<int>(run().row_stride_bytes), run().rows - 1 - first_row()};
  }

 private:
  __device__ __forceinline__ void find_run() {
#pragma unroll 1
    while (run_ + 1 < launch_.run_count && launch_.first_group[run_ + 1] <= group_) ++run_;
  }

  const BulkLaunch& launch_;
  int group_;
  int run_ = 0;
};

template <typename T>
__device__ __forceinline__ void load_widened(const T* from, float (&out)[kLaneColumns]) {
  constexpr int kVectors = kLaneColumns * sizeof(T) / sizeof(uint4);
  uint4 vectors[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) vectors[v] = reinterpret_cast<const uint4*>(from)[v];
  widen8<T>(vectors, out);
}

/// Begins to copy the launch's token rows to shared memory, x_stride columns apart. For one thread.
template <typename T>
__device__ __forceinline__ void copy_x(const BulkLaunch& launch, T* x, int x_stride,
                                       Arrival& arrival) {
  const int bytes = launch.k * static_cast<int>(sizeof(T));
  arrival.expect(launch.tokens * bytes);
#pragma unroll 1
  for (int t = 0; t < launch.tokens; ++t) {
    arrival.copy(x + t * x_stride, launch.x + t * launch.x_stride_bytes, bytes);
  }
}

/// The norm that makes a launch's x, of kTokens token rows at most.
template <typename T, int kTokens>
class LaunchNorm {
 public:
  /// Before wait_for_previous(), and before the queue fills: what is asked for later comes later.
  __device__ __forceinline__ explicit LaunchNorm(const NormRows& rows)
      : rows_(rows),
        token_(static_cast<int>(threadIdx.x) / kNormThreads),
        norm_(rows.weight, static_cast<int>(rows.width),
              static_cast<int>(threadIdx.x) % kNormThreads) {}
  /// Begins to read.
  __device__ __forceinline__ void read() {
    // With fewer token rows than threads for them, the last of the threads have none.
    norm_.read(token_ < rows_.tokens ? rows_.x + token_ * rows_.width : nullptr);
  }
  /// Leaves x in shared memory, token rows x_stride columns apart; the first block's is what others
  /// will read.
  __device__ __forceinline__ void finish(T* x, int x_stride) {
    __shared__ float partials[kTokens][kNormThreads];
    norm_.finish(rows_.epsilon, partials[token_]);
    norm_.write([&](int i, T value) { x[token_ * x_stride + i] = value; });
    __syncthreads();
    if (blockIdx.x == 0) store(x, x_stride);
  }

 private:
  __device__ __forceinline__ void store(const T* x, int x_stride) const {
    constexpr int kElements = static_cast<int>(sizeof(uint4) / sizeof(T));  // divide the width
    const int vectors = static_cast<int>(rows_.width) / kElements;
    if (token_ >= rows_.tokens) return;
    const auto* const from = reinterpret_cast<const uint4*>(x + token_ * x_stride);
    auto* const to = reinterpret_cast<uint4*>(rows_.out) + static_cast<int64_t>(token_) * vectors;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) % kNormThreads; i < vectors; i += kNormThreads) {
      to[i] = from[i];
    }
  }

  const NormRows& rows_;
  const int token_;
  RowNorm<T> norm_;
};

/// [row][token][column]
template <int kRows, int kTokens>
using Partials = float[kRows * kTokens * kLaneColumns];

/// Adds a lane's columns of kRows rows to the partial sums: x has them for each token row, x_stride
/// columns apart.
template <typename T, int kRows, int kTokens>
__device__ __forceinline__ void add_products(const float (&w)[kRows][kLaneColumns], const T* x,
                                             int x_stride, Partials<kRows, kTokens>& partials) {
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    float values[kLaneColumns];
    load_widened<T>(x + t * x_stride, values);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int e = 0; e < kLaneColumns; ++e) {
        float& partial = partials[(r * kTokens + t) * kLaneColumns + e];
        partial = __fmaf_rn(w[r][e], values[e], partial);
      }
    }
  }
}

template <int kRows, int kTokens>
__device__ __forceinline__ void store_sums(const Partials<kRows, kTokens>& partials,
                                           const MatmulRun& run, int first_row, int tokens,
                                           int lane) {
  constexpr int kSums = kRows * kTokens;
  const float sum = tree_sums_of_warp<kSums>(partials, lane);
  const int index = lane * kSums / 32;
  const int row = first_row + index / kTokens;
  const int token = index % kTokens;
  if (lane % (32 / kSums) == 0 && row < run.rows && token < tokens) {
    store_product(run, row, token, sum);
  }
}

/// Launches a kernel with a block per multiprocessor and so many bytes of shared memory.
template <typename Shape, auto kKernel, typename Launch>
void launch_bulk_kernel(Launch& launch, size_t shared_bytes, Queue& queue) {
  static const cudaError_t ready =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           queue.shared_bytes - kBulkStaticBytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  const int blocks = std::min(queue.multiprocessors, number_groups(launch, Shape::kRows));
  headrace::cuda::launch(queue, kKernel, blocks, Shape::kThreads, shared_bytes, launch);
}

}  // namespace headrace::cuda
