#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/take_words.h"
#include "kernels/cpu/unroll.h"
#include "tensor/dtype.h"
#include "tensor/float16.h"

namespace headrace::cpu {
namespace {

/// 4 floats in an array, in plain C++. The interface of Avx512 (vector_avx512.h).
struct Portable {
  static constexpr int kLanes = 4;
  static constexpr int kRegisters = 16;
  struct Vec {
    float lane[kLanes];
  };

  template <typename F>
  static HR_INLINE Vec each(F value_of_lane) {
    return {{value_of_lane(0), value_of_lane(1), value_of_lane(2), value_of_lane(3)}};
  }
  static HR_INLINE Vec zero() { return {}; }
  static HR_INLINE Vec set1(float value) { return {{value, value, value, value}}; }
  static HR_INLINE Vec load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
  static HR_INLINE Vec load_n(const float* from, int64_t n) {
    return each([&](int i) { return i < n ? from[i] : 0.0f; });
  }
  static HR_INLINE void store(float* to, Vec v) { std::memcpy(to, v.lane, sizeof v.lane); }
  static HR_INLINE void store_n(float* to, Vec v, int64_t n) {
    for (int i = 0; i < n; ++i) to[i] = v.lane[i];
  }

  static HR_INLINE Vec add(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static HR_INLINE Vec sub(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static HR_INLINE Vec mul(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static HR_INLINE Vec div(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static HR_INLINE Vec fma(Vec a, Vec b, Vec c) {
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static HR_INLINE Vec max(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static HR_INLINE Vec min(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }

  static HR_INLINE Vec scale(Vec p, Vec rounded) {
    return each([&](int i) {
      const int n = std::bit_cast<int>(rounded.lane[i]) - 0x4b400000;
      const int first = n >> 1;
      return p.lane[i] * power(first) * power(n - first);
    });
  }

  static HR_INLINE Vec keep_n(Vec v, int64_t n) { return select_n(v, zero(), n); }
  static HR_INLINE Vec select_n(Vec v, Vec other, int64_t n) {
    return each([&](int i) { return i < n ? v.lane[i] : other.lane[i]; });
  }

  static HR_INLINE float tree(Vec v) { return (v.lane[0] + v.lane[2]) + (v.lane[1] + v.lane[3]); }
  static HR_INLINE void tree8(const Vec* v, float* sums) {
    for (int i = 0; i < 8; ++i) sums[i] = tree(v[i]);
  }
  static HR_INLINE float largest(Vec v) {
    float most = v.lane[0];
    for (int i = 1; i < kLanes; ++i) most = v.lane[i] > most ? v.lane[i] : most;
    return most;
  }

  template <DType kType>
  static HR_INLINE Vec widen(const std::byte* from) {
    return each([&](int i) { return element<kType>(from, i); });
  }
  template <DType kType>
  static HR_INLINE Vec widen_n(const std::byte* from, int64_t n) {
    return each([&](int i) { return i < n ? element<kType>(from, i) : 0.0f; });
  }
  template <DType kType>
  static HR_INLINE void narrow_n(std::byte* to, Vec v, int64_t n) {
    for (int i = 0; i < n; ++i) {
      if constexpr (kType == DType::kFloat32) {
        std::memcpy(to + 4 * i, &v.lane[i], 4);
      } else {
        const uint16_t bits =
            kType == DType::kFloat16 ? float_to_float16(v.lane[i]) : float_to_bfloat16(v.lane[i]);
        std::memcpy(to + 2 * i, &bits, 2);
      }
    }
  }

  static HR_INLINE Vec in_register(Vec v) { return v; }

  static constexpr size_t kWords = 1;
  static HR_INLINE bool take_words(const HostWord* from, uint32_t number, uint32_t* bits) {
    return take_word(*from, number, bits);
  }

  static HR_INLINE void prefetch(const void* at) { __builtin_prefetch(at, 0, 2); }

 private:
  static HR_INLINE float power(int exponent) {
    return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  }
  template <DType kType>
  static HR_INLINE float element(const std::byte* from, int i) {
    if constexpr (kType == DType::kFloat32) {
      float value;
      std::memcpy(&value, from + 4 * i, 4);
      return value;
    } else {
      uint16_t bits;
      std::memcpy(&bits, from + 2 * i, 2);
      return kType == DType::kFloat16 ? float16_to_float(bits) : bfloat16_to_float(bits);
    }
  }
};

}  // namespace
}  // namespace headrace::cpu
