#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_launch.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace headrace::cuda {
namespace {

// A block multiplies kRows rows of weights with all token rows. Some columns of both at a time pass
// through shared memory, in a queue that is deep enough for the memory's latency and small enough that
// the next kernel's block can stand beside it: that one fills its queue while this one ends.
constexpr int kQueueBytes = 112 << 10;
constexpr int kWarpRows = 16;
constexpr int kHalves = 2;  // of the token rows, a warp each

struct MatrixLaunch {
  MatmulRun runs[kMaxRunsPerLaunch];
  int32_t first_group[kMaxRunsPerLaunch + 1];  // run i takes groups [first_group[i], ...[i + 1])
  int32_t run_count;
  const std::byte* x;
  int64_t x_stride_bytes;
  int32_t tokens;
  int32_t k;
};

template <int kRows, int kTokens>
struct Shape {
  static constexpr int kColumns = kRows > 32 ? 64 : 128;  // of a stage: few warps want few barriers
  static constexpr int kLineBytes = kColumns * 2;
  static constexpr int kLineVectors = kLineBytes / kVectorBytes;
  static constexpr int kThreads = kRows / kWarpRows * kHalves * 32;
  static constexpr int kLines = kThreads / kLineVectors;  // that are copied at once
  static constexpr int kWeightLines = kRows / kLines;     // of a thread
  static constexpr int kTokenLines = (kTokens + kLines - 1) / kLines;
  static constexpr int kStageBytes = (kRows + kTokens) * kLineBytes;
  static constexpr int kStages = kQueueBytes / kStageBytes;
  static constexpr int kWarpTokens = kTokens / kHalves;
  static_assert(kRows % kLines == 0 && kWarpTokens % 16 == 0 && kStages >= 3);
};

/// Begins the copies of stages, one after the other. A thread copies the same 16 bytes of a stage's
/// lines, of some lines.
template <int kRows, int kTokens>
class StageCopies {
  using S = Shape<kRows, kTokens>;

 public:
  __device__ StageCopies(const MatrixLaunch& launch, const MatmulRun& run, int first_row)
      : column_(static_cast<int>(threadIdx.x) % S::kLineVectors * 8), k_(launch.k) {
    const int line = static_cast<int>(threadIdx.x) / S::kLineVectors;
    place_ = line * S::kLineBytes + swizzled(line, column_) * 2;
#pragma unroll
    for (int i = 0; i < S::kWeightLines; ++i) {
      const int row = min(first_row + line + i * S::kLines, run.rows - 1);
      weights_[i] = run.weights + static_cast<int64_t>(row) * run.row_stride_bytes + column_ * 2;
    }
#pragma unroll
    for (int i = 0; i < S::kTokenLines; ++i) {
      const int token = line + i * S::kLines;
      x_[i] = launch.x + min(token, launch.tokens - 1) * launch.x_stride_bytes + column_ * 2;
      token_copied_[i] = token < kTokens;
      token_present_[i] = token < launch.tokens;
    }
  }
  /// Zeros past the last column, and for tokens that are not there.
  __device__ __forceinline__ void copy_weights(int step, unsigned stage) const {
    const bool present = step * S::kColumns + column_ < k_;
#pragma unroll
    for (int i = 0; i < S::kWeightLines; ++i) {
      copy_vector(stage + place_ + i * S::kLines * S::kLineBytes,
                  present ? weights_[i] + step * S::kLineBytes : weights_[i], present);
    }
  }
  __device__ __forceinline__ void copy_x(int step, unsigned stage) const {
    const bool present = step * S::kColumns + column_ < k_;
#pragma unroll
    for (int i = 0; i < S::kTokenLines; ++i) {
      if (!token_copied_[i]) continue;
      copy_vector(stage + place_ + (kRows + i * S::kLines) * S::kLineBytes,
                  present ? x_[i] + step * S::kLineBytes : x_[i], present && token_present_[i]);
    }
  }

 private:
  const int column_;
  const int k_;
  int place_;
  const std::byte* weights_[S::kWeightLines];
  const std::byte* x_[S::kTokenLines];
  bool token_copied_[S::kTokenLines];
  bool token_present_[S::kTokenLines];
};

/// Adds the products of 64 columns: of 16 rows, at `rows` of the lane, and kTiles x 8 tokens, at
/// `tokens`.
template <typename T, int kLineBytes, int kTiles>
__device__ __forceinline__ void multiply_columns(unsigned rows, unsigned tokens,
                                                 float (&sums)[kTiles][4]) {
  constexpr int kSteps = 4;
  LeftFragment left[kSteps];
  unsigned right[kSteps][kTiles / 2][4];
#pragma unroll
  for (int c = 0; c < kSteps; ++c) {
    load_matrices(rows ^ (c * 32), left[c].words);
#pragma unroll
    for (int n = 0; n < kTiles / 2; ++n) {
      load_matrices((tokens ^ (c * 32)) + n * 16 * kLineBytes, right[c][n]);
    }
  }
#pragma unroll
  for (int c = 0; c < kSteps; ++c) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const unsigned pair[2] = {right[c][n / 2][n % 2 * 2], right[c][n / 2][n % 2 * 2 + 1]};
      multiply_add<T>(sums[n], left[c], pair);
    }
  }
}

/// Where a lane's matrices for load_matrices begin in a stage: of line `line`, column `column`.
template <int kLineBytes>
__device__ __forceinline__ unsigned place_of(int line, int column) {
  return static_cast<unsigned>(line * kLineBytes + swizzled(line, column) * 2);
}

/// The same order of additions as cuBLASLt's products: a bias comes last.
__device__ __forceinline__ void store(const MatmulRun& run, int row, int token, float value) {
  float& out = run.out[token * run.out_stride + row];
  if (run.accumulate != 0) value = __fadd_rn(value, out);
  out = run.bias == nullptr ? value : __fadd_rn(value, run.bias[row]);
}

template <typename T, int kRows, int kTokens>
__global__ void __launch_bounds__(Shape<kRows, kTokens>::kThreads)
    matrix_matmul_kernel(const __grid_constant__ MatrixLaunch launch) {
  using S = Shape<kRows, kTokens>;
  extern __shared__ __align__(128) std::byte queue[];
  constexpr int kTiles = S::kWarpTokens / 8;
  allow_next();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = static_cast<int>(blockIdx.x);
  int index = 0;
  while (index + 1 < launch.run_count && launch.first_group[index + 1] <= group) ++index;
  const MatmulRun& run = launch.runs[index];
  const int first_row = (group - launch.first_group[index]) * kRows;
  const StageCopies<kRows, kTokens> copies(launch, run, first_row);
  const auto stages = static_cast<unsigned>(__cvta_generic_to_shared(queue));
  const int steps = (launch.k + S::kColumns - 1) / S::kColumns;
#pragma unroll
  for (int n = 0; n < S::kStages - 1; ++n) {
    if (n < steps) copies.copy_weights(n, stages + n * S::kStageBytes);
  }
  wait_for_previous();
#pragma unroll
  for (int n = 0; n < S::kStages - 1; ++n) {
    if (n < steps) copies.copy_x(n, stages + n * S::kStageBytes);
    end_copies_of_stage();
  }

  const unsigned rows = place_of<S::kLineBytes>(warp / kHalves * kWarpRows + lane % 16, lane / 16 * 8);
  const unsigned tokens = place_of<S::kLineBytes>(
      kRows + warp % kHalves * S::kWarpTokens + lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
  float sums[kTiles][4] = {};
  unsigned taken = 0;                                      // offsets of stages
  unsigned filled = (S::kStages - 1) * S::kStageBytes;
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<S::kStages - 2>();
    __syncthreads();  // all have the stage, and have left the one before
    if (const int next = step + S::kStages - 1; next < steps) {
      copies.copy_weights(next, stages + filled);
      copies.copy_x(next, stages + filled);
    }
    end_copies_of_stage();
#pragma unroll
    for (int c = 0; c < S::kLineBytes; c += 128) {
      multiply_columns<T, S::kLineBytes>(stages + taken + c + rows, stages + taken + c + tokens,
                                         sums);
    }
    filled = taken;
    taken = taken + S::kStageBytes == S::kStages * S::kStageBytes ? 0 : taken + S::kStageBytes;
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = first_row + warp / kHalves * kWarpRows + lane / 4 + i / 2 * 8;
      const int token = warp % kHalves * S::kWarpTokens + 8 * n + lane % 4 * 2 + i % 2;
      if (row < run.rows && token < launch.tokens) store(run, row, token, sums[n][i]);
    }
  }
}

template <typename T, int kRows, int kTokens>
void launch_rows(MatrixLaunch& launch, Queue& queue) {
  using S = Shape<kRows, kTokens>;
  const auto kernel = matrix_matmul_kernel<T, kRows, kTokens>;
  // More than half of a multiprocessor's: then two blocks of the launch never share one while
  // another has none, as those that begin early would.
  constexpr int kAloneBytes = 116 << 10;
  static_assert(S::kStages * S::kStageBytes <= kAloneBytes);
  static const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kAloneBytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  const int blocks = number_groups(launch, kRows);
  const int shared =
      blocks <= queue.multiprocessors ? kAloneBytes : S::kStages * S::kStageBytes;
  headrace::cuda::launch(queue, kernel, blocks, S::kThreads, static_cast<size_t>(shared), launch);
}

/// As many rows a block as leave a block for nearly every multiprocessor: the more there are, the
/// less often token rows are read.
template <typename T, int kTokens>
void launch_tokens(MatrixLaunch& launch, Queue& queue) {
  const int enough_blocks = queue.multiprocessors * 9 / 10;
  if (number_groups(launch, 96) >= enough_blocks) {
    launch_rows<T, 96, kTokens>(launch, queue);
  } else if (number_groups(launch, 64) >= enough_blocks) {
    launch_rows<T, 64, kTokens>(launch, queue);
  } else {
    launch_rows<T, 32, kTokens>(launch, queue);
  }
}

template <typename T>
void launch_type(MatrixLaunch& launch, Queue& queue) {
  if (launch.tokens <= 32) {
    launch_tokens<T, 32>(launch, queue);
  } else {
    launch_tokens<T, 64>(launch, queue);
  }
}

}  // namespace

void matrix_matmul(const MatmulRuns& matmul, Queue& queue) {
  auto launch = launch_of<MatrixLaunch>(matmul);
  if (matmul.dtype == DType::kFloat16) {
    launch_type<__half>(launch, queue);
  } else {
    launch_type<__nv_bfloat16>(launch, queue);
  }
}

}  // namespace headrace::cuda
