#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "kernels/cpu/unroll.h"
#include "kernels/host_workers.h"
#include "tensor/dtype.h"

namespace headrace::cpu {
namespace {

/// 16 floats in a 512-bit register. The vector classes share this interface; kernels are templates
/// over them. Functions ending in _n touch only the first n elements of memory, 0 <= n <= kLanes,
/// and load +0 into the other lanes. In an unnamed namespace: every file that includes this header
/// is compiled for one instruction set, and must not share its code with files that are not.
struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kRegisters = 32;
  using Vec = __m512;

  static HR_INLINE Vec zero() { return _mm512_setzero_ps(); }
  static HR_INLINE Vec set1(float value) { return _mm512_set1_ps(value); }
  static HR_INLINE Vec load(const float* from) { return _mm512_loadu_ps(from); }
  static HR_INLINE Vec load_n(const float* from, int64_t n) {
    return _mm512_maskz_loadu_ps(mask(n), from);
  }
  static HR_INLINE void store(float* to, Vec v) { _mm512_storeu_ps(to, v); }
  static HR_INLINE void store_n(float* to, Vec v, int64_t n) {
    _mm512_mask_storeu_ps(to, mask(n), v);
  }

  static HR_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
  static HR_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
  static HR_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
  static HR_INLINE Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
  static HR_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
  /// a > b ? a : b; b if either is NaN.
  static HR_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
  /// a < b ? a : b; b if either is NaN.
  static HR_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }

  /// p * 2^n in two steps, where n is the integer that `rounded` = n + 1.5 * 2^23 carries.
  static HR_INLINE Vec scale(Vec p, Vec rounded) {
    const __m512i n = _mm512_sub_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(0x4b400000));
    const __m512i first = _mm512_srai_epi32(n, 1);
    return mul(mul(p, power(first)), power(_mm512_sub_epi32(n, first)));
  }

  /// First n lanes of v, +0 in the others.
  static HR_INLINE Vec keep_n(Vec v, int64_t n) { return _mm512_maskz_mov_ps(mask(n), v); }
  /// First n lanes of v, those of `other` after them.
  static HR_INLINE Vec select_n(Vec v, Vec other, int64_t n) {
    return _mm512_mask_mov_ps(other, mask(n), v);
  }

  /// Lane j += lane j + s for s = 8, 4, 2, 1; lane 0.
  static HR_INLINE float tree(Vec v) {
    v = add(v, _mm512_shuffle_f32x4(v, v, 0x4e));
    v = add(v, _mm512_shuffle_f32x4(v, v, 0xb1));
    v = add(v, _mm512_permute_ps(v, 0x4e));
    v = add(v, _mm512_permute_ps(v, 0xb1));
    return _mm512_cvtss_f32(v);
  }
  /// The trees of 8 vectors at once.
  static HR_INLINE void tree8(const Vec* v, float* sums) {
    Vec a[4];
    for (int i = 0; i < 4; ++i) {  // lanes 0-7 of v[2i] and of v[2i + 1]
      a[i] = add(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                 _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
    }
    Vec b[2];
    for (int i = 0; i < 2; ++i) {  // 4 lanes of each of v[4i] ... v[4i + 3]
      b[i] = add(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88),
                 _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xdd));
    }
    const Vec c = add(_mm512_shuffle_ps(b[0], b[1], 0x44), _mm512_shuffle_ps(b[0], b[1], 0xee));
    const Vec d = add(c, _mm512_permute_ps(c, 0xb1));
    // d holds sum 4h + q in lanes 4q + 2h and 4q + 2h + 1.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_mask_storeu_ps(sums, 0xff, _mm512_permutexvar_ps(order, d));
  }
  /// Largest lane (NaN lanes are lost or win: callers give none).
  static HR_INLINE float largest(Vec v) {
    v = max(_mm512_shuffle_f32x4(v, v, 0x4e), v);
    v = max(_mm512_shuffle_f32x4(v, v, 0xb1), v);
    v = max(_mm512_permute_ps(v, 0x4e), v);
    v = max(_mm512_permute_ps(v, 0xb1), v);
    return _mm512_cvtss_f32(v);
  }

  template <DType kType>
  static HR_INLINE Vec widen(const std::byte* from) {
    if constexpr (kType == DType::kFloat32) return _mm512_loadu_ps(from);
    if constexpr (kType != DType::kFloat32) {
      return widen16<kType>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
  }
  template <DType kType>
  static HR_INLINE Vec widen_n(const std::byte* from, int64_t n) {
    if constexpr (kType == DType::kFloat32) return _mm512_maskz_loadu_ps(mask(n), from);
    if constexpr (kType != DType::kFloat32) {
      return widen16<kType>(_mm256_maskz_loadu_epi16(mask(n), from));
    }
  }
  template <DType kType>
  static HR_INLINE void narrow_n(std::byte* to, Vec v, int64_t n) {
    if constexpr (kType == DType::kFloat32) _mm512_mask_storeu_ps(to, mask(n), v);
    if constexpr (kType != DType::kFloat32) {
      _mm256_mask_storeu_epi16(to, mask(n), narrow16<kType>(v));
    }
  }

  /// v, but in a register: keeps the compiler from loading a value anew at each use.
  static HR_INLINE Vec in_register(Vec v) {
    asm("" : "+v"(v));
    return v;
  }

  /// CpuKernels::take_words for kWords words.
  static constexpr size_t kWords = 8;
  static HR_INLINE bool take_words(const HostWord* from, uint32_t number, uint32_t* bits) {
    constexpr __mmask16 kNumbers = 0xaaaa;
    __m512i words = _mm512_loadu_si512(from);
    asm("" : "+v"(words));  // loaded once: bits and numbers are of one moment
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits), _mm512_cvtepi64_epi32(words));
    return _mm512_mask_cmpneq_epi32_mask(kNumbers, words,
                                         _mm512_set1_epi32(static_cast<int>(number))) == 0;
  }

  /// Into the second-level cache: the first keeps what is used again and again.
  static HR_INLINE void prefetch(const void* at) { _mm_prefetch(at, _MM_HINT_T1); }

 private:
  static HR_INLINE __mmask16 mask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static HR_INLINE Vec power(__m512i exponent) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(exponent, _mm512_set1_epi32(127)), 23));
  }
  template <DType kType>
  static HR_INLINE Vec widen16(__m256i bits) {
    if constexpr (kType == DType::kFloat16) return _mm512_cvtph_ps(bits);
    if constexpr (kType == DType::kBFloat16) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
  }
  template <DType kType>
  static HR_INLINE __m256i narrow16(Vec v) {
    if constexpr (kType == DType::kFloat16) {
      return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    }
    if constexpr (kType ==
                  DType::kBFloat16) {  // integer rounding: the instruction flushes denormals
      const __m512i bits = _mm512_castps_si512(v);
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
      __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
      const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
      up = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
      return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
    }
  }
};

}  // namespace
}  // namespace headrace::cpu
