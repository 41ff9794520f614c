#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/unroll.h"
#include "kernels/numerics.h"

namespace headrace::cpu {

/// The steps of attention (cpu_kernels.h), as templates over a vector class V.
template <typename V>
struct AttentionKernels {
  using Vec = typename V::Vec;
  using Rows = Elementwise<V>;

  static constexpr int kMostRows = 4;
  static constexpr int kWide = V::kRegisters / 8;  // vectors of a row that are summed together

  static void multiply_in_order(int64_t rows, int64_t steps, int64_t columns, const float* a,
                                int64_t a_stride, const float* b, int64_t b_stride, float* c,
                                int64_t c_stride, bool start) {
    int64_t r = 0;
    for (; r + kMostRows <= rows; r += kMostRows) {
      multiply_rows<kMostRows>(steps, columns, a + r * a_stride, a_stride, b, b_stride,
                               c + r * c_stride, c_stride, start);
    }
    const float* a_left = a + r * a_stride;
    float* c_left = c + r * c_stride;
    switch (rows - r) {
      case 3:
        return multiply_rows<3>(steps, columns, a_left, a_stride, b, b_stride, c_left, c_stride,
                                start);
      case 2:
        return multiply_rows<2>(steps, columns, a_left, a_stride, b, b_stride, c_left, c_stride,
                                start);
      case 1:
        return multiply_rows<1>(steps, columns, a_left, a_stride, b, b_stride, c_left, c_stride,
                                start);
      default:
        return;
    }
  }

  static void softmax_split(float* scores, int64_t count, float scale, float* max, float* sum) {
    constexpr float kLowest = -__builtin_inff();
    const Vec factor = V::set1(scale);
    Vec most = V::set1(kLowest);
    for (int64_t i = 0; i < count; i += V::kLanes) {
      const Vec s = V::mul(V::load(scores + i), factor);
      V::store(scores + i, s);
      most = V::max(V::select_n(s, V::set1(kLowest), Rows::lanes_left(count - i)), most);
    }
    *max = V::largest(most);

    constexpr int kSums = static_cast<int>(numerics::kSumLanes) / V::kLanes;
    Vec sums[kSums];
    for (Vec& lane : sums) lane = V::zero();
    const Vec shift = V::set1(*max);
    int which = 0;
    for (int64_t i = 0; i < count; i += V::kLanes) {
      const Vec p =
          V::keep_n(Rows::exp(V::sub(V::load(scores + i), shift)), Rows::lanes_left(count - i));
      V::store(scores + i, p);
      sums[which] = V::add(sums[which], p);
      which = which + 1 == kSums ? 0 : which + 1;
    }
    for (int half = kSums / 2; half >= 1; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] = V::add(sums[i], sums[i + half]);
    }
    *sum = V::tree(sums[0]);
  }

  static void fold(float* max, float* sum, float* weighted, float next_max, float next_sum,
                   const float* next_weighted, int64_t head_dim) {
    const float both = next_max > *max ? next_max : *max;
    float factors[V::kLanes];
    V::store(factors, Rows::exp(V::set1(*max - both)));
    const float keep = factors[0];
    V::store(factors, Rows::exp(V::set1(next_max - both)));
    const float take = factors[0];
    V::store(factors, V::fma(V::set1(take), V::set1(next_sum), V::set1(keep * *sum)));
    *sum = factors[0];
    *max = both;
    for (int64_t d = 0; d < head_dim; d += V::kLanes) {
      const int64_t n = Rows::lanes_left(head_dim - d);
      const Vec kept = V::mul(V::set1(keep), V::load_n(weighted + d, n));
      V::store_n(weighted + d, V::fma(V::set1(take), V::load_n(next_weighted + d, n), kept), n);
    }
  }

  template <DType kType>
  static void finish(const float* weighted, float sum, int64_t head_dim, std::byte* out) {
    for (int64_t d = 0; d < head_dim; d += V::kLanes) {
      const int64_t n = Rows::lanes_left(head_dim - d);
      V::template narrow_n<kType>(out + Rows::size(kType, d),
                                  V::div(V::load_n(weighted + d, n), V::set1(sum)), n);
    }
  }

 private:
  template <int kRows>
  static void multiply_rows(int64_t steps, int64_t columns, const float* a, int64_t a_stride,
                            const float* b, int64_t b_stride, float* c, int64_t c_stride,
                            bool start) {
    int64_t n = 0;
    for (; n + kWide * V::kLanes <= columns; n += kWide * V::kLanes) {
      multiply_block<kRows, kWide>(steps, a, a_stride, b + n, b_stride, c + n, c_stride, start);
    }
    for (; n < columns; n += V::kLanes) {
      multiply_block<kRows, 1>(steps, a, a_stride, b + n, b_stride, c + n, c_stride, start);
    }
  }

  template <int kRows, int kVectors>
  static HR_INLINE void multiply_block(int64_t steps, const float* a, int64_t a_stride,
                                       const float* b, int64_t b_stride, float* c, int64_t c_stride,
                                       bool start) {
    Vec sum[kRows * kVectors];
    const auto each = [&](auto visit) __attribute__((always_inline)) {
      unroll<kRows>([&](auto r) __attribute__((always_inline)) {
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          constexpr int kSum = decltype(r)::value * kVectors + decltype(v)::value;
          visit(sum[kSum], c + r * c_stride + v * V::kLanes);
        });
      });
    };
    if (start) {
      each([](Vec& s, const float*) __attribute__((always_inline)) { s = V::zero(); });
    } else {
      each([](Vec& s, const float* at) __attribute__((always_inline)) { s = V::load(at); });
    }
    for (int64_t step = 0; step < steps; ++step, ++a, b += b_stride) {
      Vec row[kVectors];
      unroll<kVectors>([&](auto v)
                           __attribute__((always_inline)) { row[v] = V::load(b + v * V::kLanes); });
      unroll<kRows>([&](auto r) __attribute__((always_inline)) {
        const Vec factor = V::set1(a[r * a_stride]);
        unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
          constexpr int kSum = decltype(r)::value * kVectors + decltype(v)::value;
          sum[kSum] = V::fma(factor, row[v], sum[kSum]);
        });
      });
    }
    each([](Vec& s, float* at) __attribute__((always_inline)) { V::store(at, s); });
  }
};

}  // namespace headrace::cpu
