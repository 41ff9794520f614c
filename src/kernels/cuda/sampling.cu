#include <cstring>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kNoToken = 0x7fffffff;
constexpr uint32_t kSignBit = 0x80000000u;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

/// The larger logit, and of equals the smaller id; a NaN is never larger.
__device__ __forceinline__ void take_larger(float& logit, int& id, float other, int other_id) {
  if (other > logit || (other == logit && other_id < id)) {
    logit = other;
    id = other_id;
  }
}

/// A block per row. NaN and +infinity make sum_exp a NaN, which the host reports.
__global__ void __launch_bounds__(kThreads)
    top_logits_kernel(const float* logits, int64_t vocab, TopLogit* top) {
  allow_next();
  wait_for_previous();
  __shared__ float shared_values[kThreads / 32];
  __shared__ int shared_ids[kThreads / 32];
  const float* row = logits + blockIdx.x * vocab;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;

  float best = -INFINITY;
  int id = kNoToken;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    take_larger(best, id, row[i], static_cast<int>(i));
  }
  const auto reduce = [&] {
#pragma unroll
    for (int s = 16; s > 0; s /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, best, s);
      const int other_id = __shfl_xor_sync(0xffffffffu, id, s);
      take_larger(best, id, other, other_id);
    }
  };
  reduce();
  if (lane == 0) {
    shared_values[warp] = best;
    shared_ids[warp] = id;
  }
  __syncthreads();
  best = shared_values[lane];
  id = shared_ids[lane];
  reduce();
  __syncthreads();

  float sum = 0.0f;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    sum = __fadd_rn(sum, canonical_exp(__fsub_rn(row[i], best)));
  }
  sum = tree_sum<32>(sum);
  if (lane == 0) shared_values[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    sum = tree_sum<32>(shared_values[lane]);
    if (lane == 0) top[blockIdx.x] = {id == kNoToken ? 0 : id, best, sum};
  }
}

/// Larger for larger floats; -0 counts as +0.
__device__ __forceinline__ uint32_t ordered_bits(float value) {
  const uint32_t bits = __float_as_uint(value == 0.0f ? 0.0f : value);
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

__device__ __forceinline__ uint64_t key_of(float logit, int64_t id) {
  return static_cast<uint64_t>(ordered_bits(logit)) << 32 | ~static_cast<uint32_t>(id);
}

/// Counts the digits, at `shift`, of the row's keys that begin as `prefix` does.
__device__ void count_digits(const float* row, int64_t vocab, uint64_t prefix, int shift,
                             int (&counts)[kDigits]) {
  const uint64_t above = shift + kDigitBits == 64 ? 0 : ~uint64_t{0} << (shift + kDigitBits);
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    const uint64_t key = key_of(row[i], i);
    if ((key & above) != (prefix & above)) continue;
    // Most keys share few digits: lanes with the same one add together.
    const int digit = static_cast<int>(key >> shift) & (kDigits - 1);
    const unsigned same = __match_any_sync(__activemask(), digit);
    if (__ffs(static_cast<int>(same)) - 1 == static_cast<int>(threadIdx.x) % 32) {
      atomicAdd(&counts[digit], __popc(same));
    }
  }
}

/// A block per row: finds the count-th largest key digit by digit, then gathers what is not smaller.
__global__ void __launch_bounds__(kThreads)
    best_logits_kernel(const float* logits, int64_t vocab, int count, uint64_t* best) {
  __shared__ int counts[kDigits];
  __shared__ uint64_t shared_prefix;
  __shared__ int shared_wanted;
  __shared__ int gathered;
  allow_next();
  wait_for_previous();
  const float* row = logits + blockIdx.x * vocab;
  uint64_t prefix = 0;
  int wanted = count;  // of the keys that begin as prefix does
  bool all = false;    // of them are wanted
  for (int shift = 64 - kDigitBits; shift >= 0 && !all; shift -= kDigitBits) {
    if (threadIdx.x < kDigits) counts[threadIdx.x] = 0;
    __syncthreads();
    count_digits(row, vocab, prefix, shift, counts);
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = kDigits - 1;
      int left = wanted;
      for (; counts[digit] < left; --digit) left -= counts[digit];
      shared_prefix = prefix | static_cast<uint64_t>(digit) << shift;
      shared_wanted = counts[digit] == left ? 0 : left;
      gathered = 0;
    }
    __syncthreads();
    prefix = shared_prefix;
    wanted = shared_wanted;
    all = wanted == 0;
  }
  uint64_t* const out = best + static_cast<int64_t>(blockIdx.x) * count;
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) {
    const uint64_t key = key_of(row[i], i);
    if (key >= prefix) out[atomicAdd(&gathered, 1)] = key;
  }
}

}  // namespace

void best_logits(const float* logits, int64_t rows, int64_t vocab, int64_t count, uint64_t* best,
                 Queue& queue) {
  launch(queue, best_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, logits, vocab,
         static_cast<int>(count), best);
}

KeyedLogit logit_of_key(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  const uint32_t bits = (ordered & kSignBit) != 0 ? ordered & ~kSignBit : ~ordered;
  KeyedLogit found = {.id = static_cast<int32_t>(~static_cast<uint32_t>(key))};
  std::memcpy(&found.logit, &bits, sizeof(bits));
  return found;
}

void top_logits(const float* logits, int64_t rows, int64_t vocab, TopLogit* top,
                Queue& queue) {
  launch(queue, top_logits_kernel, static_cast<unsigned>(rows), kThreads, 0, logits, vocab, top);
}

}  // namespace headrace::cuda
