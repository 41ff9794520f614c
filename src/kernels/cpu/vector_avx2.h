#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "kernels/cpu/unroll.h"
#include "kernels/host_workers.h"
#include "tensor/dtype.h"

namespace headrace::cpu {
namespace {

/// 8 floats in a 256-bit register, with FMA and F16C. The interface of Avx512 (vector_avx512.h).
struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kRegisters = 16;
  using Vec = __m256;

  static HR_INLINE Vec zero() { return _mm256_setzero_ps(); }
  static HR_INLINE Vec set1(float value) { return _mm256_set1_ps(value); }
  static HR_INLINE Vec load(const float* from) { return _mm256_loadu_ps(from); }
  static HR_INLINE Vec load_n(const float* from, int64_t n) {
    return _mm256_maskload_ps(from, mask(n));
  }
  static HR_INLINE void store(float* to, Vec v) { _mm256_storeu_ps(to, v); }
  static HR_INLINE void store_n(float* to, Vec v, int64_t n) {
    _mm256_maskstore_ps(to, mask(n), v);
  }

  static HR_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
  static HR_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
  static HR_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
  static HR_INLINE Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
  static HR_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
  static HR_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
  static HR_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }

  static HR_INLINE Vec scale(Vec p, Vec rounded) {
    const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(0x4b400000));
    const __m256i first = _mm256_srai_epi32(n, 1);
    return mul(mul(p, power(first)), power(_mm256_sub_epi32(n, first)));
  }

  static HR_INLINE Vec keep_n(Vec v, int64_t n) { return select_n(v, zero(), n); }
  static HR_INLINE Vec select_n(Vec v, Vec other, int64_t n) {
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(mask(n)));
  }

  static HR_INLINE float tree(Vec v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static HR_INLINE void tree8(const Vec* v, float* sums) {
    for (int i = 0; i < 8; ++i) sums[i] = tree(v[i]);
  }
  static HR_INLINE float largest(Vec v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  template <DType kType>
  static HR_INLINE Vec widen(const std::byte* from) {
    if constexpr (kType == DType::kFloat32) {
      return _mm256_loadu_ps(reinterpret_cast<const float*>(from));
    }
    if constexpr (kType != DType::kFloat32) {
      return widen16<kType>(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
  }
  template <DType kType>
  static HR_INLINE Vec widen_n(const std::byte* from, int64_t n) {
    if constexpr (kType == DType::kFloat32) return load_n(reinterpret_cast<const float*>(from), n);
    if constexpr (kType != DType::kFloat32) {
      alignas(16) std::byte bytes[16] = {};
      std::memcpy(bytes, from, static_cast<size_t>(n) * 2);
      return widen<kType>(bytes);
    }
  }
  template <DType kType>
  static HR_INLINE void narrow_n(std::byte* to, Vec v, int64_t n) {
    if constexpr (kType == DType::kFloat32) store_n(reinterpret_cast<float*>(to), v, n);
    if constexpr (kType != DType::kFloat32) {
      const __m128i bits = narrow16<kType>(v);
      if (n == kLanes) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bits);
      } else {
        std::memcpy(to, &bits, static_cast<size_t>(n) * 2);
      }
    }
  }

  static HR_INLINE Vec in_register(Vec v) {
    asm("" : "+x"(v));
    return v;
  }

  static constexpr size_t kWords = 4;
  static HR_INLINE bool take_words(const HostWord* from, uint32_t number, uint32_t* bits) {
    constexpr int kNumbers = 0xaa;
    __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    asm("" : "+x"(words));  // loaded once: bits and numbers are of one moment
    const __m256i bits_first =
        _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bits), _mm256_castsi256_si128(bits_first));
    const __m256i equal = _mm256_cmpeq_epi32(words, _mm256_set1_epi32(static_cast<int>(number)));
    return (_mm256_movemask_ps(_mm256_castsi256_ps(equal)) & kNumbers) == kNumbers;
  }

  static HR_INLINE void prefetch(const void* at) {
    _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T1);
  }

 private:
  static HR_INLINE __m256i mask(int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
  }
  static HR_INLINE Vec power(__m256i exponent) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
  }
  template <DType kType>
  static HR_INLINE Vec widen16(__m128i bits) {
    if constexpr (kType == DType::kFloat16) return _mm256_cvtph_ps(bits);
    if constexpr (kType == DType::kBFloat16) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
  }
  template <DType kType>
  static HR_INLINE __m128i narrow16(Vec v) {
    if constexpr (kType == DType::kFloat16) {
      return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    }
    if constexpr (kType == DType::kBFloat16) {
      const __m256i bits = _mm256_castps_si256(v);
      const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
      const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
      const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
      const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
      const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
      return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    }
  }
};

}  // namespace
}  // namespace headrace::cpu
