#pragma once

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/matmul_few.h"
#include "kernels/cpu/matmul_many.h"
#include "kernels/cpu/take_words.h"

namespace headrace::cpu {

/// Fills the table of kernels from the templates. One file per instruction set instantiates it with
/// its vector class, and is compiled with that set's flags.
template <typename V>
struct MakeKernels {
  template <typename Body>
  static HR_INLINE void by_dtype(DType dtype, Body body) {
    switch (dtype) {
      case DType::kFloat32:
        return body.template operator()<DType::kFloat32>();
      case DType::kFloat16:
        return body.template operator()<DType::kFloat16>();
      case DType::kBFloat16:
        return body.template operator()<DType::kBFloat16>();
    }
  }

  static void widen(DType dtype, const std::byte* from, int64_t count, float* to) {
    by_dtype(dtype, [&]<DType kType>() { Elementwise<V>::template widen<kType>(from, count, to); });
  }
  static void narrow(DType dtype, const float* from, int64_t count, std::byte* to) {
    by_dtype(dtype,
             [&]<DType kType>() { Elementwise<V>::template narrow<kType>(from, count, to); });
  }
  static void rms_norm(const float* x, const float* weight, float epsilon, int64_t width,
                       DType dtype, std::byte* out) {
    by_dtype(dtype, [&]<DType kType>() {
      Elementwise<V>::template rms_norm<kType>(x, weight, epsilon, width, out);
    });
  }
  static void silu_multiply(const float* a, const float* b, int64_t count, DType dtype,
                            std::byte* out) {
    by_dtype(dtype, [&]<DType kType>() {
      Elementwise<V>::template silu_multiply<kType>(a, b, count, out);
    });
  }
  static void pack_row(DType dtype, const std::byte* x, int64_t k, float* packed) {
    by_dtype(dtype, [&]<DType kType>() { MatmulFew<V>::template pack_row<kType>(x, k, packed); });
  }
  static void matmul_few(const MatrixRows& rows, const float* x, int64_t x_stride) {
    by_dtype(rows.dtype,
             [&]<DType kType>() { MatmulFew<V>::template run<kType>(rows, x, x_stride); });
  }
  static void pack_tokens(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens,
                          const LeafOrder& order, int64_t k, float* packed) {
    by_dtype(dtype, [&]<DType kType>() {
      MatmulMany<V>::template pack_tokens<kType>(x, x_stride_bytes, tokens, order, k, packed);
    });
  }
  static void matmul_many(const MatrixRows& rows, const LeafOrder& order, const float* x,
                          float* scratch) {
    by_dtype(rows.dtype,
             [&]<DType kType>() { MatmulMany<V>::template run<kType>(rows, order, x, scratch); });
  }
  static void finish(const float* weighted, float sum, int64_t head_dim, DType dtype,
                     std::byte* out) {
    by_dtype(dtype, [&]<DType kType>() {
      AttentionKernels<V>::template finish<kType>(weighted, sum, head_dim, out);
    });
  }

  static constexpr CpuKernels kTable = {
      .lanes = V::kLanes,
      .widen = widen,
      .narrow = narrow,
      .rms_norm = rms_norm,
      .silu_multiply = silu_multiply,
      .rotate = Elementwise<V>::rotate,
      .take_words = cpu::take_words<V>,
      .pack_row = pack_row,
      .matmul_few = matmul_few,
      .pack_tokens = pack_tokens,
      .matmul_many = matmul_many,
      .multiply_in_order = AttentionKernels<V>::multiply_in_order,
      .softmax_split = AttentionKernels<V>::softmax_split,
      .fold = AttentionKernels<V>::fold,
      .finish = finish,
  };
};

}  // namespace headrace::cpu
