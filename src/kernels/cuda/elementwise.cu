#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"

namespace headrace::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 16;  // loads in flight of a thread of rms_norm
constexpr int kPartials = static_cast<int>(numerics::kPartials);
static_assert(kThreads == kPartials, "a thread owns a partial sum");

unsigned blocks_for(int64_t count) {
  constexpr int64_t kMostBlocks = 4096;
  return static_cast<unsigned>(
      std::clamp<int64_t>((count + kThreads - 1) / kThreads, 1, kMostBlocks));
}

__device__ __forceinline__ int64_t first_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t index_step() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

template <typename T>
__global__ void widen_kernel(const T* in, int64_t count, float* out) {
  allow_next();
  wait_for_previous();
  for (int64_t i = first_index(); i < count; i += index_step()) out[i] = to_float(in[i]);
}

template <typename T>
__device__ __forceinline__ T silu_product(float a, float b) {
  return round_to<T>(__fmul_rn(silu(a), b));
}

template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T values[4];
};

/// Four elements at a time, then the up to three that are left.
template <typename T>
__global__ void silu_multiply_kernel(const float* a, const float* b, int64_t count, T* out) {
  allow_next();
  wait_for_previous();
#pragma unroll 4
  for (int64_t i = first_index(); i < count / 4; i += index_step()) {
    const float4 x = reinterpret_cast<const float4*>(a)[i];
    const float4 y = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<Four<T>*>(out)[i] = {{silu_product<T>(x.x, y.x), silu_product<T>(x.y, y.y),
                                           silu_product<T>(x.z, y.z), silu_product<T>(x.w, y.w)}};
  }
  const int64_t i = count / 4 * 4 + first_index();
  if (i < count) out[i] = silu_product<T>(a[i], b[i]);
}

/// The canonical tree over the block's partial sums, a thread's `partial` each; every thread gets the
/// sum, as every warp adds up all of them.
__device__ float block_tree_sum(float partial, float (&partials)[kPartials]) {
  partials[threadIdx.x] = partial;
  __syncthreads();
  constexpr int kWarp = 32;
  float held[kPartials / kWarp];
#pragma unroll
  for (int i = 0; i < kPartials / kWarp; ++i) {
    held[i] = partials[threadIdx.x % kWarp + i * kWarp];
  }
#pragma unroll
  for (int s = kPartials / kWarp / 2; s > 0; s /= 2) {
#pragma unroll
    for (int i = 0; i < s; ++i) held[i] = __fadd_rn(held[i], held[i + s]);
  }
  return __shfl_sync(0xffffffffu, tree_sum<kWarp>(held[0]), 0);
}

/// A block per token row. A thread keeps the first kUnroll of its elements in registers.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(const float* x, const float* weight, float epsilon, int width, T* out) {
  __shared__ float partials[kPartials];
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * width;
  const float* row = x + begin;
  const int thread = threadIdx.x;
  float kept[kUnroll];
  float weights[kUnroll];
  allow_next();
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int i = thread + u * kThreads;
    weights[u] = i < width ? weight[i] : 0.0f;
  }
  wait_for_previous();
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int i = thread + u * kThreads;
    kept[u] = i < width ? row[i] : 0.0f;
  }
  float sum = 0.0f;
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    if (thread + u * kThreads < width) sum = __fmaf_rn(kept[u], kept[u], sum);
  }
#pragma unroll 8
  for (int i = thread + kUnroll * kThreads; i < width; i += kThreads) {
    sum = __fmaf_rn(row[i], row[i], sum);
  }
  const float mean = __fdiv_rn(block_tree_sum(sum, partials), static_cast<float>(width));
  const float scale = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, epsilon)));
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int i = thread + u * kThreads;
    if (i < width) out[begin + i] = round_to<T>(__fmul_rn(__fmul_rn(kept[u], scale), weights[u]));
  }
#pragma unroll 8
  for (int i = thread + kUnroll * kThreads; i < width; i += kThreads) {
    out[begin + i] = round_to<T>(__fmul_rn(__fmul_rn(row[i], scale), weight[i]));
  }
}

__global__ void add_bias_kernel(float* out, int64_t stride, int rows, const float* bias) {
  allow_next();
  wait_for_previous();
  const int row = static_cast<int>(first_index());
  if (row >= rows) return;
  float& value = out[blockIdx.y * stride + row];
  value = __fadd_rn(value, bias[row]);
}

}  // namespace

void widen(DType dtype, const std::byte* in, int64_t count, float* out, Queue& queue) {
  HR_DISPATCH_DTYPE(dtype, T,
                    launch(queue, widen_kernel<T>, blocks_for(count), kThreads, 0,
                           reinterpret_cast<const T*>(in), count, out))
}

void rms_norm(const float* x, const float* weight, float epsilon, int64_t tokens, int64_t width,
              DType out_dtype, std::byte* out, Queue& queue) {
  HR_DISPATCH_DTYPE(out_dtype, T,
                    launch(queue, rms_norm_kernel<T>, static_cast<unsigned>(tokens), kThreads, 0,
                           x, weight, epsilon, static_cast<int>(width), reinterpret_cast<T*>(out)))
}

void silu_multiply(const float* a, const float* b, int64_t count, DType out_dtype, std::byte* out,
                   Queue& queue) {
  HR_DISPATCH_DTYPE(out_dtype, T,
                    launch(queue, silu_multiply_kernel<T>, blocks_for((count + 3) / 4), kThreads, 0,
                           a, b, count, reinterpret_cast<T*>(out)))
}

void add_bias(float* out, int64_t stride, int64_t tokens, int64_t rows, const float* bias,
              Queue& queue) {
  constexpr int64_t kMostBlocksY = 65535;
  for (int64_t begin = 0; begin < tokens; begin += kMostBlocksY) {
    const dim3 grid(static_cast<unsigned>((rows + kThreads - 1) / kThreads),
                    static_cast<unsigned>(std::min(kMostBlocksY, tokens - begin)));
    launch(queue, add_bias_kernel, grid, kThreads, 0, out + begin * stride, stride,
           static_cast<int>(rows), bias);
  }
}

}  // namespace headrace::cuda
