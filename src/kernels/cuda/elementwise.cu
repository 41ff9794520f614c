#include <algorithm>

#include "kernels/cuda/device_math.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_norm.cuh"
#include "kernels/cuda/silu.cuh"

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

constexpr int kWarp = 32;
constexpr int kWidenedRows = kThreads / kWarp;  // of a block

/// A warp per token row, kCount elements a lane.
template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    widen_places_kernel(const T* rows, const int32_t* places, int64_t tokens, int width,
                        float* out) {
  allow_next();
  wait_for_previous();
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWidenedRows + threadIdx.y;
  if (token >= tokens) return;
  const T* const row = rows + static_cast<int64_t>(places[token]) * width;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) * kCount; i < width; i += kWarp * kCount) {
    const auto from = *reinterpret_cast<const Packed<T, kCount>*>(row + i);
    Packed<float, kCount> to;
#pragma unroll
    for (int e = 0; e < kCount; ++e) to.values[e] = to_float(from.values[e]);
    *reinterpret_cast<Packed<float, kCount>*>(out + token * width + i) = to;
  }
}

/// kBatch times four elements a thread, then the up to three that are left. Blocks take
/// neighbouring pieces, so that those that run at the same time read neighbouring memory.
template <typename T, int kBatch>
__global__ void __launch_bounds__(kThreads)
    silu_multiply_kernel(const float* a, const float* b, int64_t count, T* out) {
  using Vector = Packed<float, 4>;
  allow_next();
  wait_for_previous();
  const int64_t vectors = count / 4;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBatch * kThreads + threadIdx.x;
  Vector x[kBatch];
  Vector y[kBatch];
#pragma unroll
  for (int u = 0; u < kBatch; ++u) {
    const int64_t i = begin + u * kThreads;
    if (i >= vectors) break;
    x[u] = reinterpret_cast<const Vector*>(a)[i];
    y[u] = reinterpret_cast<const Vector*>(b)[i];
  }
#pragma unroll
  for (int u = 0; u < kBatch; ++u) {
    const int64_t i = begin + u * kThreads;
    if (i >= vectors) break;
    reinterpret_cast<Packed<T, 4>*>(out)[i] = rounded<T>(silu_products(x[u].values, y[u].values));
  }
  const int64_t i = vectors * 4 + first_index();
  if (i < count) out[i] = round_to<T>(silu_products<1>({a[i]}, {b[i]}).values[0]);
}

template <typename T, int kBatch>
void launch_silu(const float* a, const float* b, int64_t count, std::byte* out, Queue& queue) {
  constexpr int64_t kElements = int64_t{4} * kBatch * kThreads;  // of a block
  launch(queue, silu_multiply_kernel<T, kBatch>,
         static_cast<unsigned>((count + kElements - 1) / kElements), kThreads, 0, a, b, count,
         reinterpret_cast<T*>(out));
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

// The same where many rows of whole vectors keep memory busy: a thread owns four neighbouring
// partial sums, and a block takes some rows in turn, so that weights are read once for all of them.
constexpr int kVectorNormThreads = kNormThreads / 4;
constexpr int kVectorNormRows = 8;
constexpr int kKeptVectors = 16;  // of a thread, in registers

/// The canonical tree over all partial sums, in every thread. Threads may be a call apart: what
/// they share alternates between two places.
__device__ __forceinline__ float tree_of_vectors(float4 partial,
                                                 float4 (&partials)[kVectorNormThreads]) {
  static_assert(kVectorNormThreads == 2 * kWarp);
  const int thread = static_cast<int>(threadIdx.x);
  partials[thread] = partial;
  __syncthreads();
  const float4 low = partials[thread % kWarp];
  const float4 high = partials[thread % kWarp + kWarp];
  const float x = tree_sum<kWarp>(__fadd_rn(low.x, high.x));
  const float y = tree_sum<kWarp>(__fadd_rn(low.y, high.y));
  const float z = tree_sum<kWarp>(__fadd_rn(low.z, high.z));
  const float w = tree_sum<kWarp>(__fadd_rn(low.w, high.w));
  return __shfl_sync(0xffffffffu, __fadd_rn(__fadd_rn(x, z), __fadd_rn(y, w)), 0);
}

template <typename T>
__global__ void __launch_bounds__(kVectorNormThreads) rms_norm_vector_kernel(NormRows rows) {
  __shared__ float4 partials[2][kVectorNormThreads];
  allow_next();
  const int vectors = static_cast<int>(rows.width) / 4;
  const int thread = static_cast<int>(threadIdx.x);
  const auto* const weights = reinterpret_cast<const float4*>(rows.weight);
  const auto for_kept = [&](auto body) {
#pragma unroll
    for (int u = 0; u < kKeptVectors; ++u) {
      const int i = thread + u * kVectorNormThreads;
      if (i < vectors) body(u, i);
    }
  };
  const auto for_left = [&](auto body) {
    for (int i = thread + kKeptVectors * kVectorNormThreads; i < vectors; i += kVectorNormThreads) {
      body(i);
    }
  };
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kVectorNormRows;
  const int64_t last = min(first + kVectorNormRows, rows.tokens);
  float4 kept_weights[kKeptVectors];
  for_kept([&](int u, int i) { kept_weights[u] = weights[i]; });
  wait_for_previous();
#pragma unroll 1
  for (int64_t row = first; row < last; ++row) {
    const auto* const x = reinterpret_cast<const float4*>(rows.x) + row * vectors;
    auto* const out = reinterpret_cast<Packed<T, 4>*>(rows.out) + row * vectors;
    float4 kept[kKeptVectors];
    for_kept([&](int u, int i) { kept[u] = x[i]; });

    float4 sums = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const auto add = [&](float4 v) {
      sums = make_float4(__fmaf_rn(v.x, v.x, sums.x), __fmaf_rn(v.y, v.y, sums.y),
                         __fmaf_rn(v.z, v.z, sums.z), __fmaf_rn(v.w, v.w, sums.w));
    };
    for_kept([&](int u, int) { add(kept[u]); });
    for_left([&](int i) { add(x[i]); });
    const float scale = norm_scale(tree_of_vectors(sums, partials[row % 2]),
                                   static_cast<int>(rows.width), rows.epsilon);

    const auto put = [&](int i, float4 v, float4 weight) {
      out[i] = {{normed<T>(v.x, scale, weight.x), normed<T>(v.y, scale, weight.y),
                 normed<T>(v.z, scale, weight.z), normed<T>(v.w, scale, weight.w)}};
    };
    for_kept([&](int u, int i) { put(i, kept[u], kept_weights[u]); });
    for_left([&](int i) { put(i, x[i], weights[i]); });
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

void copy_staged(const StagedCopies& staged, Queue& queue) {
  constexpr int kBytesOfBlock = kThreads * static_cast<int>(sizeof(uint4));
  int32_t most = 0;
  for (int32_t i = 0; i < staged.count; ++i) most = std::max(most, staged.copies[i].bytes);
  const dim3 grid(static_cast<unsigned>((most + kBytesOfBlock - 1) / kBytesOfBlock),
                  static_cast<unsigned>(staged.count));
  launch(queue, copy_staged_kernel, grid, kThreads, 0, staged);
  queue.interrupted();  // kernels read weights and tables before they wait for the kernel before
                        // them
}

void widen(DType dtype, const std::byte* in, int64_t count, float* out, Queue& queue) {
  HR_DISPATCH_DTYPE(dtype, T,
                    launch(queue, widen_kernel<T>, blocks_for(count), kThreads, 0,
                           reinterpret_cast<const T*>(in), count, out))
}

void widen_places(DType dtype, const std::byte* rows, const int32_t* places, int64_t tokens,
                  int64_t width, float* out, Queue& queue) {
  constexpr int kCount = 4;
  if (tokens == 0) return;
  const auto blocks = static_cast<unsigned>((tokens + kWidenedRows - 1) / kWidenedRows);
  HR_DISPATCH_DTYPE(dtype, T, {
    const auto kernel =
        width % kCount == 0 ? widen_places_kernel<T, kCount> : widen_places_kernel<T, 1>;
    launch(queue, kernel, blocks, dim3(kWarp, kWidenedRows), 0, reinterpret_cast<const T*>(rows),
           places, tokens, static_cast<int>(width), out);
  })
  queue.interrupted();  // kernels read tables, too, before they wait for the kernel before them
}

void rms_norm(const NormRows& rows, Queue& queue) {
  constexpr int64_t kManyRows = 16;  // a multiprocessor
  const bool many = rows.width % 4 == 0 && rows.tokens >= kManyRows * queue.multiprocessors;
  const int threads = many ? kVectorNormThreads : kNormThreads;
  const int64_t blocks = many ? (rows.tokens + kVectorNormRows - 1) / kVectorNormRows : rows.tokens;
  HR_DISPATCH_DTYPE(rows.out_dtype, T, {
    const auto kernel = many ? rms_norm_vector_kernel<T> : rms_norm_kernel<T>;
    launch(queue, kernel, static_cast<unsigned>(blocks), threads, 0, rows);
  })
}

void silu_multiply(const float* a, const float* b, int64_t count, DType out_dtype, std::byte* out,
                   Queue& queue) {
  constexpr int kBatch = 4;
  if (count == 0) return;
  const bool many = count >= int64_t{4} * kBatch * kThreads * queue.multiprocessors;
  HR_DISPATCH_DTYPE(out_dtype, T,
                    (many ? launch_silu<T, kBatch> : launch_silu<T, 1>)(a, b, count, out, queue))
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
