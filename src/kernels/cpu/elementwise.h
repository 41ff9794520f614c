#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/unroll.h"
#include "kernels/numerics.h"
#include "tensor/dtype.h"

namespace headrace::cpu {

/// Kernels over contiguous rows, as templates over a vector class V. See CpuKernels (cpu_kernels.h)
/// for what each computes.
template <typename V>
struct Elementwise {
  using Vec = typename V::Vec;

  static HR_INLINE Vec exp(Vec x) {
    using namespace numerics;  // NOLINT(google-build-using-namespace): the formula's constants
    x = V::max(V::set1(kExpLowest), x);
    x = V::min(V::set1(kExpHighest), x);
    const Vec rounded = V::fma(x, V::set1(kLog2E), V::set1(kRoundMagic));
    const Vec n = V::sub(rounded, V::set1(kRoundMagic));
    const Vec r = V::fma(n, V::set1(-kLn2Low), V::fma(n, V::set1(-kLn2High), x));
    Vec p = V::set1(kExpC6);
    p = V::fma(p, r, V::set1(kExpC5));
    p = V::fma(p, r, V::set1(kExpC4));
    p = V::fma(p, r, V::set1(kExpC3));
    p = V::fma(p, r, V::set1(kExpC2));
    p = V::fma(p, r, V::set1(1.0f));
    p = V::fma(p, r, V::set1(1.0f));
    return V::scale(p, rounded);
  }

  template <DType kType>
  static void widen(const std::byte* from, int64_t count, float* to) {
    int64_t i = 0;
    for (; i + V::kLanes <= count; i += V::kLanes) {
      V::store(to + i, V::template widen<kType>(from + size(kType, i)));
    }
    if (i < count) {
      V::store_n(to + i, V::template widen_n<kType>(from + size(kType, i), count - i), count - i);
    }
  }

  template <DType kType>
  static void narrow(const float* from, int64_t count, std::byte* to) {
    for (int64_t i = 0; i < count; i += V::kLanes) {
      const int64_t n = lanes_left(count - i);
      V::template narrow_n<kType>(to + size(kType, i), V::load_n(from + i, n), n);
    }
  }

  static float square_sum(const float* x, int64_t count) {
    constexpr int kBlocks = static_cast<int>(numerics::kPartials) / V::kLanes;
    Vec partials[kBlocks];
    for (Vec& partial : partials) partial = V::zero();
    int64_t i = 0;
    for (; i + numerics::kPartials <= count; i += numerics::kPartials) {
      unroll<kBlocks>([&](auto block) __attribute__((always_inline)) {
        const Vec v = V::load(x + i + block * V::kLanes);
        partials[block] = V::fma(v, v, partials[block]);
      });
    }
    for (int block = 0; i < count; i += V::kLanes, ++block) {
      const Vec v = V::load_n(x + i, lanes_left(count - i));  // +0 adds nothing: no sum is -0
      partials[block] = V::fma(v, v, partials[block]);
    }
    for (int half = kBlocks / 2; half >= 1; half /= 2) {
      for (int block = 0; block < half; ++block) {
        partials[block] = V::add(partials[block], partials[block + half]);
      }
    }
    return V::tree(partials[0]);
  }

  template <DType kType>
  static void rms_norm(const float* x, const float* weight, float epsilon, int64_t width,
                       std::byte* out) {
    const float mean = square_sum(x, width) / static_cast<float>(width);
    const Vec scale = V::set1(1.0f / std::sqrt(mean + epsilon));
    for (int64_t i = 0; i < width; i += V::kLanes) {
      const int64_t n = lanes_left(width - i);
      const Vec normed = V::mul(V::mul(V::load_n(x + i, n), scale), V::load_n(weight + i, n));
      V::template narrow_n<kType>(out + size(kType, i), normed, n);
    }
  }

  template <DType kType>
  static void silu_multiply(const float* a, const float* b, int64_t count, std::byte* out) {
    for (int64_t i = 0; i < count; i += V::kLanes) {
      const int64_t n = lanes_left(count - i);
      const Vec z = V::load_n(a + i, n);
      const Vec negative = V::mul(z, V::set1(-1.0f));
      const Vec silu = V::div(z, V::add(V::set1(1.0f), exp(negative)));
      V::template narrow_n<kType>(out + size(kType, i), V::mul(silu, V::load_n(b + i, n)), n);
    }
  }

  static void rotate(float* x, const float* cos, const float* sin, int64_t half) {
    for (int64_t i = 0; i < half; i += V::kLanes) {
      const int64_t n = lanes_left(half - i);
      const Vec a = V::load_n(x + i, n);
      const Vec b = V::load_n(x + half + i, n);
      const Vec c = V::load_n(cos + i, n);
      const Vec s = V::load_n(sin + i, n);
      V::store_n(x + i, V::sub(V::mul(a, c), V::mul(b, s)), n);
      V::store_n(x + half + i, V::add(V::mul(b, c), V::mul(a, s)), n);
    }
  }

  static HR_INLINE size_t size(DType type, int64_t count) {
    return static_cast<size_t>(count) * dtype_size(type);
  }
  static HR_INLINE int64_t lanes_left(int64_t count) {
    return count < V::kLanes ? count : V::kLanes;
  }
};

}  // namespace headrace::cpu
