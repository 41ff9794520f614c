#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_norm.cuh"

namespace headrace::cuda {
namespace {

constexpr int kThreads = 256;

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

/// Copy blockIdx.y.
__global__ void copy_staged_kernel(const __grid_constant__ StagedCopies staged) {
  allow_next();
  wait_for_previous();
  const StagedCopies::Copy copy = staged.copies[blockIdx.y];
  const int64_t vectors = copy.bytes / static_cast<int>(sizeof(uint4));
#pragma unroll 4
  for (int64_t i = first_index(); i < vectors; i += index_step()) {
    reinterpret_cast<uint4*>(copy.to)[i] = reinterpret_cast<const uint4*>(copy.from)[i];
  }
  const int64_t i = vectors * static_cast<int64_t>(sizeof(uint4)) + first_index();
  if (i < copy.bytes) copy.to[i] = copy.from[i];
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

/// Four elements at a time, then the up to three that are left.
template <typename T>
__global__ void silu_multiply_kernel(const float* a, const float* b, int64_t count, T* out) {
  allow_next();
  wait_for_previous();
#pragma unroll 4
  for (int64_t i = first_index(); i < count / 4; i += index_step()) {
    const float4 x = reinterpret_cast<const float4*>(a)[i];
    const float4 y = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<Packed<T, 4>*>(out)[i] = {
        {silu_product<T>(x.x, y.x), silu_product<T>(x.y, y.y), silu_product<T>(x.z, y.z),
         silu_product<T>(x.w, y.w)}};
  }
  const int64_t i = count / 4 * 4 + first_index();
  if (i < count) out[i] = silu_product<T>(a[i], b[i]);
}

/// A block per token row.
template <typename T>
__global__ void __launch_bounds__(kNormThreads) rms_norm_kernel(NormRows rows) {
  __shared__ float partials[kNormThreads];
  allow_next();
  const int width = static_cast<int>(rows.width);
  RowNorm<T> norm(rows.weight, width, static_cast<int>(threadIdx.x));
  wait_for_previous();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * width;
  norm.read(rows.x + begin);
  norm.finish(rows.epsilon, partials);
  norm.write([&](int i, T value) { reinterpret_cast<T*>(rows.out)[begin + i] = value; });
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

void copy_staged(const StagedCopies& staged, Queue& queue) {
  constexpr int kBytesOfBlock = kThreads * static_cast<int>(sizeof(uint4));
  int32_t most = 0;
  for (int32_t i = 0; i < staged.count; ++i) most = std::max(most, staged.copies[i].bytes);
  const dim3 grid(static_cast<unsigned>((most + kBytesOfBlock - 1) / kBytesOfBlock),
                  static_cast<unsigned>(staged.count));
  launch(queue, copy_staged_kernel, grid, kThreads, 0, staged);
  queue.interrupted();  // kernels read weights and tables before they wait for the kernel before them
}

void widen(DType dtype, const std::byte* in, int64_t count, float* out, Queue& queue) {
  HR_DISPATCH_DTYPE(dtype, T,
                    launch(queue, widen_kernel<T>, blocks_for(count), kThreads, 0,
                           reinterpret_cast<const T*>(in), count, out))
}

void rms_norm(const NormRows& rows, Queue& queue) {
  HR_DISPATCH_DTYPE(rows.out_dtype, T,
                    launch(queue, rms_norm_kernel<T>, static_cast<unsigned>(rows.tokens),
                           kNormThreads, 0, rows))
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
