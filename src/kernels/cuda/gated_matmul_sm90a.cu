#include <algorithm>

#include "kernels/cuda/arrival.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/silu.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/warp_group.cuh"

namespace headrace::cuda {
namespace {

// A block takes tiles of 128 token rows and 128 rows of both matrices, one after the other: the
// warps of its first group bring x and weights, stage by stage, two more groups multiply 64 token
// rows each. A group's sums are 128 columns of the first matrix and the same 128 of the second, so
// that a thread has both factors of each activation. Two blocks are a cluster: they take the same
// rows of the weights, of which each brings one matrix's for both.
constexpr int kGroupThreads = 128;
constexpr int kGroups = 2;  // that multiply
constexpr int kThreads = (1 + kGroups) * kGroupThreads;
constexpr int kGroupTokens = 64;
constexpr int kBlockTokens = kGroups * kGroupTokens;
constexpr int kClusterBlocks = 2;
constexpr int kTileTokens = kClusterBlocks * kBlockTokens;  // of a cluster
constexpr int kTileRows = 128;
constexpr int kColumns = kBoxColumns;  // of a stage
constexpr int kStages = 4;
constexpr int kSumTiles = 2 * kTileRows / 8;
constexpr int kOutBoxes = kTileRows / kBoxColumns;

/// Tiles that are multiplied at the same time lie together, this many beside each other: their
/// weights and x stay in the L2 cache.
constexpr int kTilesBeside = 8;

template <typename T>
struct Stage {
  T x[kBlockTokens * kColumns];
  T weights[2][kTileRows * kColumns];
};
template <typename T>
struct Shared {
  Stage<T> stages[kStages];
  T out[kGroups][kOutBoxes][kGroupTokens * kBoxColumns];
  Arrival full[kStages];
  Arrival empty[kStages];
};

struct Launch {
  CUtensorMap x;
  CUtensorMap weights[2];
  CUtensorMap out;
  uint32_t* started;  // clusters, in each wave of tiles
  int row_tiles;
  int token_tiles;
  int steps;  // stages of a tile
};

/// A tile's first row and first token row.
struct TilePlace {
  int row;
  int token;

  __device__ __forceinline__ TilePlace(const Launch& launch, int tile) {
    const int band = tile / (kTilesBeside * launch.token_tiles);
    const int in_band = tile - band * kTilesBeside * launch.token_tiles;
    const int width = min(kTilesBeside, launch.row_tiles - band * kTilesBeside);
    row = (band * kTilesBeside + in_band % width) * kTileRows;
    token = in_band / width * kTileTokens;
  }
};

/// The stages' turns.
struct Turn {
  int stage = 0;
  int phase = 0;

  __device__ __forceinline__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    phase ^= 1;
  }
  __device__ __forceinline__ int stage_before() const {
    return stage == 0 ? kStages - 1 : stage - 1;
  }
};

__device__ __forceinline__ int block_of_cluster() {
  return static_cast<int>(blockIdx.x) % kClusterBlocks;
}
__device__ __forceinline__ void meet_cluster() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// Waits until all clusters have begun the wave before: those that run ahead would read x from
/// memory that the others find in the L2 cache. False after some time, as others may not run yet.
__device__ __forceinline__ bool keeps_pace(const Launch& launch, int wave, uint32_t clusters) {
  constexpr int kMostTries = 1000;
  constexpr unsigned kPauseNs = 200;
  atomicAdd(launch.started + wave, 1);
  if (wave == 0) return true;
  for (int i = 0; i < kMostTries; ++i) {
    if (*const_cast<volatile uint32_t*>(launch.started + wave - 1) >= clusters) return true;
    __nanosleep(kPauseNs);
  }
  return false;
}

/// One thread's work: brings the stages of all tiles.
template <typename T>
__device__ __forceinline__ void bring(const Launch& launch, Shared<T>& shared, int cluster,
                                      int clusters) {
  constexpr uint16_t kAllBlocks = (1 << kClusterBlocks) - 1;
  const int block = block_of_cluster();
  const CUtensorMap& weights = launch.weights[block];
  Turn turn;
  bool paced = block == 0;  // the other follows
  for (int tile = cluster; tile < launch.row_tiles * launch.token_tiles; tile += clusters) {
    const TilePlace place(launch, tile);
    paced = paced && keeps_pace(launch, tile / clusters, static_cast<uint32_t>(clusters));
    for (int step = 0; step < launch.steps; ++step, turn.advance()) {
      shared.empty[turn.stage].wait(turn.phase ^ 1);
      Arrival& full = shared.full[turn.stage];
      Stage<T>& stage = shared.stages[turn.stage];
      full.expect(sizeof(stage));
      full.copy_box(stage.x, launch.x, step * kColumns, place.token + block * kBlockTokens);
      full.copy_box_to(kAllBlocks, stage.weights[block], weights, step * kColumns, place.row);
    }
  }
}

/// Says to both blocks of the cluster that the group has left a stage.
template <typename T>
__device__ __forceinline__ void leave(Shared<T>& shared, int stage) {
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  if (thread < kClusterBlocks) shared.empty[stage].arrive_at(thread);
}

/// The group's products of a tile, whose first ones begin the sums.
template <typename T>
__device__ __forceinline__ void multiply(Shared<T>& shared, int group, int steps, Turn& turn,
                                         float (&sums)[kSumTiles][4]) {
  for (int step = 0; step < steps; ++step, turn.advance()) {
    shared.full[turn.stage].wait(turn.phase);
    const Stage<T>& stage = shared.stages[turn.stage];
    begin_products();
#pragma unroll
    for (int column = 0; column < kColumns; column += 16) {
      multiply_lines_group<T>(sums, lines_of(stage.x + group * kGroupTokens * kColumns + column),
                              lines_of(stage.weights[0] + column), step + column > 0);
    }
    end_products();
    if (step == 0) continue;
    wait_for_products_before();
    leave(shared, turn.stage_before());
  }
  wait_for_products(sums);
  leave(shared, turn.stage_before());
}

/// Meets the other threads of the group.
__device__ __forceinline__ void meet_group(int group) {
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(kGroupThreads) : "memory");
}

/// Rounds activations of 16 columns of 16 token rows and stores them to shared memory: the sums of
/// tiles n and n + 1 times those of the second matrix's.
template <typename T>
__device__ __forceinline__ void activate(const float (&sums)[kSumTiles][4], int n, T* out) {
  float a[8];
  float b[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    a[i] = sums[n + i / 4][i % 4];
    b[i] = sums[n + i / 4 + kSumTiles / 2][i % 4];
  }
  const Packed<float, 8> products = silu_products(a, b);
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = rounded_pair<T>(products.values[2 * i], products.values[2 * i + 1]);
  }
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int line = static_cast<int>(threadIdx.x) % kGroupThreads / 32 * 16 + lane % 16;
  const int column = 8 * n % kBoxColumns + lane / 16 * 8;
  __syncwarp();
  store_matrices(out + line * kBoxColumns + swizzled(line, column), words);
}

/// Begins to store the group's activations. The memory that they pass through is free again when
/// the thread that began waits for it.
template <typename T>
__device__ __forceinline__ void store(const Launch& launch, const TilePlace& place, int group,
                                      const float (&sums)[kSumTiles][4],
                                      T (&out)[kOutBoxes][kGroupTokens * kBoxColumns]) {
  const bool first = threadIdx.x % kGroupThreads == 0;
  if (first) wait_for_boxes_read();
  meet_group(group);
#pragma unroll
  for (int n = 0; n < kSumTiles / 2; n += 2) activate(sums, n, out[8 * n / kBoxColumns]);
  show_to_groups();
  meet_group(group);
  if (first) {
    const int token = place.token + block_of_cluster() * kBlockTokens + group * kGroupTokens;
#pragma unroll
    for (int i = 0; i < kOutBoxes; ++i) {
      store_box(launch.out, out[i], place.row + i * kBoxColumns, token);
    }
    end_boxes_of_group();
  }
  __syncwarp();
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    gated_matmul_kernel(const __grid_constant__ Launch launch) {
  extern __shared__ __align__(1024) uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<Shared<T>*>(shared_vectors);
  allow_next();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      shared.full[i].init();
      shared.empty[i].init(kClusterBlocks * kGroups);
    }
  }
  meet_cluster();
  wait_for_previous();
  const int clusters = static_cast<int>(gridDim.x) / kClusterBlocks;
  const int cluster = static_cast<int>(blockIdx.x) / kClusterBlocks;
  const int group = warp_of_block() / (kGroupThreads / 32) - 1;
  // Registers that those who copy do without.
  if (group < 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) bring(launch, shared, cluster, clusters);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    Turn turn;
    float sums[kSumTiles][4];
    for (int tile = cluster; tile < launch.row_tiles * launch.token_tiles; tile += clusters) {
      multiply(shared, group, launch.steps, turn, sums);
      store(launch, TilePlace(launch, tile), group, sums, shared.out[group]);
    }
    if (threadIdx.x % kGroupThreads == 0) wait_for_boxes();
  }
  meet_cluster();  // none leaves whose memory another may write
}

/// Clusters that the device runs at the same time; 0 where there is no such kernel.
template <auto kKernel>
int most_clusters(size_t shared_bytes, int multiprocessors) {
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {.x = kClusterBlocks, .y = 1, .z = 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = static_cast<unsigned>(multiprocessors / kClusterBlocks * kClusterBlocks);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = shared_bytes;
  config.attrs = &cluster;
  config.numAttrs = 1;
  int clusters = 0;
  if (cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(shared_bytes)) == cudaSuccess &&
      cudaOccupancyMaxActiveClusters(&clusters, kKernel, &config) == cudaSuccess) {
    return clusters;
  }
  cudaGetLastError();
  return 0;
}

template <typename T>
bool launch_rows(const GatedMatmul& matmul, const GatedRows& rows, Queue& queue) {
  constexpr auto kKernel = gated_matmul_kernel<T>;
  constexpr size_t kSharedBytes = sizeof(Shared<T>);
  static const int most = most_clusters<kKernel>(kSharedBytes, queue.multiprocessors);
  const auto pieces = [](int64_t count, int of) { return static_cast<int>((count + of - 1) / of); };
  const int row_tiles = pieces(rows.rows, kTileRows);
  const int token_tiles = pieces(matmul.tokens, kTileTokens);
  const int64_t tiles = static_cast<int64_t>(row_tiles) * token_tiles;
  if (most == 0 || tiles > kGatedWaves * most) return false;
  const auto x = tensor_map(matmul.x, matmul.tokens, matmul.k, matmul.x_stride_bytes, kBlockTokens);
  const auto first =
      tensor_map(rows.first, rows.rows, matmul.k, rows.first_stride_bytes, kTileRows);
  const auto second =
      tensor_map(rows.second, rows.rows, matmul.k, rows.second_stride_bytes, kTileRows);
  const auto out =
      tensor_map(rows.out, matmul.tokens, rows.rows, matmul.out_stride_bytes, kGroupTokens);
  if (!x || !first || !second || !out) return false;
  const Launch own = {.x = *x,
                      .weights = {*first, *second},
                      .out = *out,
                      .started = matmul.started,
                      .row_tiles = row_tiles,
                      .token_tiles = token_tiles,
                      .steps = pieces(matmul.k, kColumns)};
  const auto clusters = std::min<int64_t>(most, tiles);
  const int64_t waves = (tiles + clusters - 1) / clusters;
  cudaMemsetAsync(matmul.started, 0, static_cast<size_t>(waves) * sizeof(uint32_t),
                  queue.interrupted());
  cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(kSharedBytes));  // of this device
  launch(queue, kKernel, ClusterSize{kClusterBlocks},
         dim3(static_cast<unsigned>(clusters * kClusterBlocks)), dim3(kThreads), kSharedBytes, own);
  return true;
}

}  // namespace

bool gated_matmul(const GatedMatmul& matmul, const GatedRows& rows, Queue& queue) {
  return matmul.dtype == DType::kFloat16 ? launch_rows<__half>(matmul, rows, queue)
                                         : launch_rows<__nv_bfloat16>(matmul, rows, queue);
}

}  // namespace headrace::cuda
