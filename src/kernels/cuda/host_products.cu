#include <algorithm>

#include "kernels/cuda/canonical_matmul.cuh"
#include "kernels/cuda/host_products.cuh"
#include "kernels/cuda/launch.cuh"

namespace headrace::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostBlocks = 64;
constexpr uint64_t kDeadlineNs = 20'000'000'000;  // of a host that computes for milliseconds

__device__ __forceinline__ uint64_t now_ns() {
  uint64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

__device__ __forceinline__ uint64_t load_relaxed_system(const uint64_t* address) {
  uint64_t value;
  asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_release_system(uint32_t* address, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

__device__ __forceinline__ void store_relaxed_system(uint32_t* address, uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

__device__ __forceinline__ void store_relaxed_system(uint64_t* address, uint64_t value) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

__global__ void __launch_bounds__(kThreads) give_x_kernel(GivenX given) {
  allow_next();
  wait_for_previous();
  const int halves = given.row_bytes / 2;
  const int words = (halves + 1) / 2;
  const uint64_t number = static_cast<uint64_t>(given.number) << 32;
  for (int t = 0; t < given.tokens; ++t) {
    const auto* const from =
        reinterpret_cast<const volatile uint16_t*>(given.x + t * given.x_stride_bytes);
    uint64_t* const to = given.host_x + static_cast<int64_t>(t) * words;
    for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < words;
         i += static_cast<int>(gridDim.x) * kThreads) {
      uint64_t word = number | from[2 * i];
      if (2 * i + 1 < halves) word |= static_cast<uint32_t>(from[2 * i + 1]) << 16;
      store_relaxed_system(to + i, word);
    }
  }
}

/// Loads a token row's words until all are of the product; false when time is up. All loads are
/// under way before the first is looked at: each takes its time over PCIe.
template <int kMostTokens>
__device__ __forceinline__ bool load_words(const TakenProducts& taken, int row, uint64_t deadline_ns,
                                           uint64_t (&words)[kMostTokens]) {
  while (true) {
    bool all = true;
#pragma unroll
    for (int t = 0; t < kMostTokens; ++t) {
      if (t >= taken.tokens) break;
      words[t] = load_relaxed_system(taken.products + static_cast<int64_t>(t) * taken.all_rows + row);
    }
#pragma unroll
    for (int t = 0; t < kMostTokens; ++t) {
      if (t >= taken.tokens) break;
      all &= static_cast<uint32_t>(words[t] >> 32) == taken.number;
    }
    if (all) return true;
    if (now_ns() > deadline_ns) return false;
  }
}

/// Until it is worth while for all to look for rows up to `end`: every look takes its share of the
/// link.
__device__ __forceinline__ void wait_for_progress(const TakenProducts& taken, int end,
                                                  uint64_t deadline_ns) {
  const uint64_t wanted = static_cast<uint64_t>(taken.number) << 32 |
                          static_cast<uint32_t>(taken.rows_before + end);
  while (static_cast<int64_t>(load_relaxed_system(taken.progress) - wanted) < 0 &&
         now_ns() < deadline_ns) {
  }
}

template <int kMostTokens>
__global__ void __launch_bounds__(kThreads)
    take_products_kernel(const __grid_constant__ TakenProducts taken) {
  allow_next();
  wait_for_previous();
  const uint64_t deadline_ns = now_ns() + kDeadlineNs;
  if (blockIdx.x == 0 && threadIdx.x == 0) store_relaxed_system(taken.arrived, taken.number);
  int run = 0;
  const int rows = taken.first_row[taken.run_count];
  for (int begin = static_cast<int>(blockIdx.x) * kThreads; begin < rows;
       begin += static_cast<int>(gridDim.x) * kThreads) {
    if (threadIdx.x == 0) wait_for_progress(taken, min(begin + kThreads, rows), deadline_ns);
    __syncthreads();
    const int row = begin + static_cast<int>(threadIdx.x);
    if (row >= rows) return;
    while (taken.first_row[run + 1] <= row) ++run;
    uint64_t words[kMostTokens];
    if (!load_words<kMostTokens>(taken, row, deadline_ns, words)) {
      store_release_system(taken.overdue, 1);
      return;
    }
#pragma unroll
    for (int t = 0; t < kMostTokens; ++t) {
      if (t >= taken.tokens) break;
      store_product(taken.runs[run], row - taken.first_row[run], t,
                    __uint_as_float(static_cast<uint32_t>(words[t])));
    }
  }
}

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((items + kThreads - 1) / kThreads, 1, kMostBlocks));
}

}  // namespace

void give_x(const GivenX& given, Queue& queue) {
  launch(queue, give_x_kernel, blocks_for(given.row_bytes / 4), kThreads, 0, given);
}

void take_products(const TakenProducts& taken, Queue& queue) {
  const auto kernel = taken.tokens == 1 ? take_products_kernel<1> : take_products_kernel<8>;
  launch(queue, kernel, blocks_for(taken.first_row[taken.run_count]), kThreads, 0, taken);
}

}  // namespace headrace::cuda
