#include <algorithm>
#include <unordered_map>

#include "kernels/cuda/canonical_matmul.cuh"
#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"

namespace headrace::cuda {
namespace {

constexpr int kWarpsPerBlock = 8;
constexpr int kThreads = kWarpsPerBlock * 32;

/// Runs of a launch; run i takes the row groups [first_group[i], first_group[i + 1]).
struct Launch {
  MatmulRun runs[kMaxRunsPerLaunch];
  int32_t first_group[kMaxRunsPerLaunch + 1];
  int32_t run_count;
  const std::byte* x;
  int64_t x_stride_bytes;
  int32_t tokens;  // of this launch, at most kTokens of the kernel
  int32_t k;
  int32_t tile_k;     // columns of x in shared memory at a time, a multiple of kChunk
  int32_t x_aligned;  // rows of x consist of whole vectors
};

__device__ __forceinline__ uint4 load_streamed(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

/// Keeps the first `bytes` bytes of a word: elements of 4 or 2 bytes, so bytes is even.
__device__ __forceinline__ uint32_t mask_of(int bytes) {
  return bytes >= 4 ? 0xffffffffu : bytes <= 0 ? 0u : 0xffffu;
}

/// A lane's eight weights of a chunk, as they lie in memory.
template <typename T>
struct LaneWeights {
  static constexpr int kVectors = kLaneColumns * sizeof(T) / sizeof(uint4);
  static constexpr int kVectorColumns = sizeof(uint4) / sizeof(T);
  uint4 vectors[kVectors];

  /// Rows are padded to whole vectors, so a vector that begins before k may be read; what lies past
  /// k in it is padding, and taken as +0.
  __device__ __forceinline__ void load(const std::byte* row, int column, int k) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int first = column + v * kVectorColumns;
      vectors[v] = make_uint4(0, 0, 0, 0);
      if (first >= k) continue;
      vectors[v] = load_streamed(row + static_cast<int64_t>(first) * sizeof(T));
      const int bytes = (k - first) * static_cast<int>(sizeof(T));
      if (bytes >= static_cast<int>(sizeof(uint4))) continue;
      vectors[v].x &= mask_of(bytes);
      vectors[v].y &= mask_of(bytes - 4);
      vectors[v].z &= mask_of(bytes - 8);
      vectors[v].w &= mask_of(bytes - 12);
    }
  }
  __device__ __forceinline__ void load_whole(const std::byte* row, int column) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      vectors[v] =
          load_streamed(row + static_cast<int64_t>(column + v * kVectorColumns) * sizeof(T));
    }
  }
  __device__ __forceinline__ void widen(float (&out)[kLaneColumns]) const {
    widen8<T>(vectors, out);
  }
};

/// Where column c of x lies in shared memory: per chunk, the first four columns of every lane, then
/// the last four, so that a warp reads 16 bytes a lane without bank conflicts.
__device__ __forceinline__ int shared_index(int column) {
  const int in_chunk = column % kChunk;
  const int lane = in_chunk / kLaneColumns;
  const int element = in_chunk % kLaneColumns;
  return column - in_chunk + element / 4 * (kChunk / 2) + lane * 4 + element % 4;
}

/// Copies columns [begin, begin + tile_k) of one token row to shared memory as float32, eight at a
/// time; columns past k hold -0.
template <typename T>
__device__ void load_aligned_row(const std::byte* row, int begin, int end, int k, float* shared) {
  constexpr int kVectors = LaneWeights<T>::kVectors;
  constexpr int kAtOnce = 4;  // loads in flight of a thread
  const int pieces = (end - begin) / kLaneColumns;
  for (int first = threadIdx.x; first < pieces; first += kAtOnce * kThreads) {
    uint4 loaded[kAtOnce][kVectors];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int column = begin + (first + u * kThreads) * kLaneColumns;
      if (column >= k || column >= end) continue;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        loaded[u][v] = load_written(row + static_cast<int64_t>(column) * sizeof(T) +
                                     v * sizeof(uint4));
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int at = (first + u * kThreads) * kLaneColumns;
      if (begin + at >= end) continue;
      float wide[kLaneColumns] = {-0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f, -0.0f};
      if (begin + at < k) widen8<T>(loaded[u], wide);
      float* const to = shared + shared_index(at);
      *reinterpret_cast<float4*>(to) = make_float4(wide[0], wide[1], wide[2], wide[3]);
      *reinterpret_cast<float4*>(to + kChunk / 2) = make_float4(wide[4], wide[5], wide[6], wide[7]);
    }
  }
}

/// Copies columns [begin, begin + tile_k) of the launch's token rows to shared memory as float32.
/// Columns past k hold -0, whose product with the padding's +0 leaves every sum as it is.
template <typename T, int kTokens>
__device__ void load_x(const Launch& launch, int begin, float* shared) {
  for (int t = 0; t < kTokens; ++t) {
    const std::byte* row = launch.x + t * launch.x_stride_bytes;
    const int k = t < launch.tokens ? launch.k : 0;
    float* const to = shared + t * launch.tile_k;
    if (launch.x_aligned != 0) {
      load_aligned_row<T>(row, begin, begin + launch.tile_k, k, to);
      continue;
    }
    for (int c = threadIdx.x; c < launch.tile_k; c += kThreads) {
      const int column = begin + c;
      to[shared_index(c)] = column < k ? to_float(reinterpret_cast<const T*>(row)[column]) : -0.0f;
    }
  }
}

template <int kTokens, int kRows>
using Partials = float[kRows][kTokens][kLaneColumns];

template <typename T, int kTokens, int kRows>
__device__ __forceinline__ void multiply_chunk(const LaneWeights<T> (&weights)[kRows],
                                               const float* shared, int tile_k, int lane,
                                               Partials<kTokens, kRows>& partials) {
  float w[kRows][kLaneColumns];
#pragma unroll
  for (int r = 0; r < kRows; ++r) weights[r].widen(w[r]);
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float4* x = reinterpret_cast<const float4*>(shared + t * tile_k) + lane;
    const float4 low = x[0];
    const float4 high = x[32];
    const float columns[kLaneColumns] = {low.x,  low.y,  low.z,  low.w,
                                         high.x, high.y, high.z, high.w};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int e = 0; e < kLaneColumns; ++e) {
        partials[r][t][e] = __fmaf_rn(w[r][e], columns[e], partials[r][t][e]);
      }
    }
  }
}

/// Adds the products of columns [begin, end) of a warp's rows; x's tile begins at `begin`. The first
/// weights are on their way when prepare() brings that tile.
template <typename T, int kTokens, int kRows, int kUnroll, typename Prepare>
__device__ __forceinline__ void multiply_tile(const std::byte* const (&rows)[kRows],
                                              const float* shared, const Launch& launch, int begin,
                                              int end, int lane, const Prepare& prepare,
                                              Partials<kTokens, kRows>& partials) {
  const int column = begin + lane * kLaneColumns;
  const int steps = (end - begin) / kChunk / kUnroll;
  LaneWeights<T> current[kUnroll][kRows];
  const auto load = [&](int step, LaneWeights<T>(&into)[kUnroll][kRows]) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        into[u][r].load_whole(rows[r], column + (step * kUnroll + u) * kChunk);
      }
    }
  };
  if (steps > 0) load(0, current);
  prepare();
  for (int step = 0; step < steps; ++step) {
    LaneWeights<T> next[kUnroll][kRows];
    if (step + 1 < steps) load(step + 1, next);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      multiply_chunk<T, kTokens, kRows>(current[u], shared + (step * kUnroll + u) * kChunk,
                                        launch.tile_k, lane, partials);
    }
    if (step + 1 < steps) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) current[u][r] = next[u][r];
      }
    }
  }
  for (int c = begin + steps * kUnroll * kChunk; c < end; c += kChunk) {
    LaneWeights<T> last[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) last[r].load(rows[r], c + lane * kLaneColumns, launch.k);
    multiply_chunk<T, kTokens, kRows>(last, shared + (c - begin), launch.tile_k, lane, partials);
  }
}

/// A warp multiplies kRows rows with kTokens token rows at a time.
template <typename T, int kTokens, int kRows, int kUnroll>
__global__ void __launch_bounds__(kThreads)
    canonical_matmul_kernel(const __grid_constant__ Launch launch) {
  extern __shared__ float4 shared_vectors[];
  float* const shared = reinterpret_cast<float*>(shared_vectors);
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int groups = launch.first_group[launch.run_count];
  const bool one_tile = launch.tile_k >= launch.k;
  allow_next();
  // Groups go to blocks in turn, so that all multiprocessors get nearly the same. All warps of a
  // block make the same number of rounds, as they share x's tiles.
  const int stride = gridDim.x * kWarpsPerBlock;
  for (int round = 0; round < groups; round += stride) {
    const int group = round + warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
    int index = 0;
    while (index + 1 < launch.run_count && launch.first_group[index + 1] <= group) ++index;
    const MatmulRun& run = launch.runs[index];
    const int first_row = (group - launch.first_group[index]) * kRows;
    const bool active = group < groups;
    const std::byte* rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = min(first_row + r, run.rows - 1);
      rows[r] = run.weights + static_cast<int64_t>(row) * run.row_stride_bytes;
    }
    Partials<kTokens, kRows> partials = {};
    for (int begin = 0; begin < launch.k; begin += launch.tile_k) {
      const auto prepare = [&] {
        const bool first = round == 0 && begin == 0;
        if (first) wait_for_previous();
        if (one_tile && !first) return;
        if (!first) __syncthreads();
        load_x<T, kTokens>(launch, begin, shared);
        __syncthreads();
      };
      const int end = min(launch.k, begin + launch.tile_k);
      if (active) {
        multiply_tile<T, kTokens, kRows, kUnroll>(rows, shared, launch, begin, end, lane, prepare,
                                                  partials);
      } else {
        prepare();
      }
    }
    if (!active) continue;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float sum = tree_sum_of_warp(partials[r][t], lane);
        if (lane == 0 && first_row + r < run.rows && t < launch.tokens) {
          store_product(run, first_row + r, t, sum);
        }
      }
    }
  }
}

template <typename T, int kTokens, int kRows, int kUnroll>
void launch_tokens(Launch launch, Queue& queue) {
  const auto kernel = canonical_matmul_kernel<T, kTokens, kRows, kUnroll>;
  static const cudaError_t ready = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, queue.shared_bytes);
  static_cast<void>(ready);  // a launch would fail too, and is checked
  // Two blocks a multiprocessor, as registers allow; more columns than fit go tile by tile.
  const int padded_k = (launch.k + kChunk - 1) / kChunk * kChunk;
  const int budget = queue.shared_bytes / (kTokens < 8 ? 2 : 1) - 1024;
  const int most_k = budget / static_cast<int>(kTokens * sizeof(float)) / kChunk * kChunk;
  launch.tile_k = std::min(padded_k, most_k);
  const int shared = launch.tile_k * kTokens * static_cast<int>(sizeof(float));

  const int groups = number_groups(launch, kRows);
  static std::unordered_map<int, int> blocks_by_shared;  // asking costs more than a launch
  int& per_multiprocessor = blocks_by_shared[shared];
  if (per_multiprocessor == 0) {
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, kThreads,
                                                  static_cast<size_t>(shared));
  }
  const int most = queue.multiprocessors * std::max(1, per_multiprocessor);
  const int blocks = std::min(most, (groups + kWarpsPerBlock - 1) / kWarpsPerBlock);
  headrace::cuda::launch(queue, kernel, blocks, kThreads, static_cast<size_t>(shared), launch);
}

template <typename T>
void launch_type(const Launch& launch, Queue& queue) {
  if (launch.tokens == 1) {
    launch_tokens<T, 1, 4, 2>(launch, queue);
  } else if (launch.tokens == 2) {
    launch_tokens<T, 2, 2, 2>(launch, queue);
  } else if (launch.tokens <= 4) {
    launch_tokens<T, 4, 2, 2>(launch, queue);
  } else {
    launch_tokens<T, 8, 2, 1>(launch, queue);
  }
}

}  // namespace

void canonical_matmul(const MatmulRuns& matmul, const NormRows* norm, Queue& queue) {
  if (norm != nullptr) {
    if (canonical_matmul_bulk(matmul, norm, queue)) return;
    rms_norm(*norm, queue);
  }
  auto launch = launch_of<Launch>(matmul);
  launch.x_aligned =
      matmul.k % kLaneColumns == 0 && matmul.x_stride_bytes % sizeof(uint4) == 0 ? 1 : 0;
  for (int64_t left = matmul.tokens; left > 0; left -= kMostLaunchTokens) {
    MatmulRuns part = matmul;
    part.runs = launch.runs;
    part.x = launch.x;
    part.tokens = std::min<int64_t>(kMostLaunchTokens, left);
    launch.tokens = static_cast<int32_t>(part.tokens);
    if (!canonical_matmul_bulk(part, nullptr, queue)) {
      HR_DISPATCH_DTYPE(matmul.dtype, T, launch_type<T>(launch, queue))
    }
    advance_tokens(launch, kMostLaunchTokens);
  }
}

}  // namespace headrace::cuda
