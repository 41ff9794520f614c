// Compiled with this instruction set's flags (src/kernels/kernels.cmake); nothing here may run
// before the processor is known to have it (isa.cpp).
#include "kernels/cpu/coded_kernels.h"

#if defined(__AVX512VBMI2__)

#include <cstring>

#include "kernels/cpu/matmul_few.h"
#include "kernels/cpu/vbmi_row.h"
#include "kernels/cpu/vector_avx512.h"

namespace headrace::cpu {
namespace {

template <CodecId kCodec, DType kType>
struct VbmiCoded {
  using Row = VbmiRow<kCodec, kType>;
  using Few = MatmulFew<Avx512>;
  using Vec = __m512;

  static void decode(const RowLayout& layout, const std::byte* row, std::byte* out) {
    Row(layout, row)
        .for_blocks([&](int64_t column, auto, __m512i low, __m512i high)
                        __attribute__((always_inline)) {
                          const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
                          low = _mm512_permutexvar_epi64(order, low);
                          high = _mm512_permutexvar_epi64(order, high);
                          std::byte* to = out + column * 2;
                          _mm512_storeu_si512(to, _mm512_unpacklo_epi8(low, high));
                          _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi8(low, high));
                        });
  }

  static void reorder_x(const std::byte* x, size_t x_stride_bytes, int64_t tokens, int64_t k,
                        float* reordered) {
    constexpr size_t kBlockBytes = Row::kBlock * 2;
    constexpr auto kMinusZero = static_cast<short>(0x8000);
    alignas(64) std::byte last[kBlockBytes];
    for (int64_t column = 0; column < decoded_elements(k); column += Row::kBlock) {
      for (int64_t t = 0; t < tokens; ++t, reordered += Row::kBlock) {
        const auto begin = static_cast<size_t>(column) * 2;
        const std::byte* block = x + static_cast<size_t>(t) * x_stride_bytes + begin;
        if (column + Row::kBlock > k) {
          _mm512_store_si512(last, _mm512_set1_epi16(kMinusZero));
          _mm512_store_si512(last + 64, _mm512_set1_epi16(kMinusZero));
          if (column < k) std::memcpy(last, block, static_cast<size_t>(k - column) * 2);
          block = last;
        }
        reorder_block(block, reordered);
      }
    }
  }

  static void multiply(const MatrixRows& m, const RowLayout& layout, const float* x) {
    for (int64_t r = 0; r < m.rows; r += Few::kBatch) {
      const int64_t count = m.rows - r < Few::kBatch ? m.rows - r : Few::kBatch;
      Vec sums[kFewTokens][Few::kBatch] = {};
      for (int64_t i = 0; i < count; ++i) {
        const std::byte* row = m.weights + static_cast<size_t>(r + i) * m.row_stride_bytes;
        if (m.tokens == 1) {
          sums[0][i] = multiply_row(layout, row, x);
        } else {
          Partials partials;
          multiply_row(layout, row, x, m.tokens, partials);
          for (int64_t t = 0; t < m.tokens; ++t) sums[t][i] = add_up(partials.of[t]);
        }
      }
      for (int64_t t = 0; t < m.tokens; ++t) {
        float dots[Few::kBatch];
        Avx512::tree8(sums[t], dots);
        Few::write(m, r, count, t, dots);
      }
    }
  }

 private:
  /// Four vectors of floats, in the order of multiply_few. Of bfloat16 the even ones of the first 8
  /// of each 16 columns, then the odd ones; the even ones of the other 8; the odd ones. Of float16
  /// the first 8 of each 16 columns up to 32, then of those from there; the other 8.
  struct Floats {
    Vec of[4];
  };

  /// Columns of x in the order of Floats.
  static HR_INLINE void reorder_block(const std::byte* block, float* reordered) {
    if constexpr (kType == DType::kBFloat16) {
      const __m512i first = _mm512_loadu_si512(block);  // two columns a word
      const __m512i second = _mm512_loadu_si512(block + 64);
      const __m512i words =
          _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
      unroll<2>([&](auto half) __attribute__((always_inline)) {
        const __m512i from = _mm512_add_epi32(words, _mm512_set1_epi32(half * 4));
        const __m512i pairs = _mm512_permutex2var_epi32(first, from, second);
        float* const to = reordered + half * 32;
        _mm512_storeu_si512(to, _mm512_slli_epi32(pairs, 16));
        _mm512_storeu_si512(to + 16, _mm512_and_si512(pairs, upper));
      });
    } else {
      unroll<4>([&](auto v) __attribute__((always_inline)) {
        const auto* const from =
            reinterpret_cast<const __m128i*>(block + (v % 2 * 32 + v / 2 * 8) * 2);
        const __m256i halves = _mm256_setr_m128i(_mm_loadu_si128(from), _mm_loadu_si128(from + 2));
        _mm512_storeu_ps(reordered + v * 16, _mm512_cvtph_ps(halves));
      });
    }
  }

  static HR_INLINE Floats widen(__m512i low, __m512i high) {
    const __m512i first = _mm512_unpacklo_epi8(low, high);  // columns 0 - 7 of each 16
    const __m512i second = _mm512_unpackhi_epi8(low, high);
    if constexpr (kType == DType::kBFloat16) {
      const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
      const auto even = [](__m512i pairs) __attribute__((always_inline)) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
      };
      const auto odd = [&](__m512i pairs) __attribute__((always_inline)) {
        return _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
      };
      return {{even(first), odd(first), even(second), odd(second)}};
    } else {
      // Through memory: halves of registers, and conversions of registers, cost shuffles.
      alignas(64) std::byte words[128];
      _mm512_store_si512(words, first);
      _mm512_store_si512(words + 64, second);
      asm("" : "+m"(words));
      Floats floats;
      unroll<4>([&](auto v) __attribute__((always_inline)) {
        floats.of[v] = Avx512::widen<DType::kFloat16>(words + v * 32);
      });
      return floats;
    }
  }

  /// The partial sums of several token rows: in the first-level cache.
  struct Partials {
    alignas(64) Vec of[kFewTokens][4 * Row::kBlocks];
  };

  /// One token row: its partial sums are in registers.
  static HR_INLINE Vec multiply_row(const RowLayout& layout, const std::byte* row, const float* x) {
    Vec sum[4 * Row::kBlocks];
    unroll<4 * Row::kBlocks>([&](auto i)
                                 __attribute__((always_inline)) { sum[i] = _mm512_setzero_ps(); });
    Row(layout, row)
        .for_blocks([&](int64_t column, auto block, __m512i low,
                        __m512i high) __attribute__((always_inline)) {
          const Floats weights = widen(low, high);
          unroll<4>([&](auto v) __attribute__((always_inline)) {
            constexpr int kSum = decltype(block)::value * 4 + decltype(v)::value;
            sum[kSum] =
                _mm512_fmadd_ps(weights.of[v], _mm512_loadu_ps(x + column + v * 16), sum[kSum]);
          });
        });
    return add_up(sum);
  }

  static void multiply_row(const RowLayout& layout, const std::byte* row, const float* x,
                           int64_t tokens, Partials& partials) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (Vec& sum : partials.of[t]) sum = _mm512_setzero_ps();
    }
    Row(layout, row)
        .for_blocks([&](int64_t column, auto block, __m512i low,
                        __m512i high) __attribute__((always_inline)) {
          Floats weights = widen(low, high);
          unroll<4>([&](auto v) __attribute__((always_inline)) {
            weights.of[v] = Avx512::in_register(weights.of[v]);
          });
          const float* from = x + column * tokens;
          for (int64_t t = 0; t < tokens; ++t, from += Row::kBlock) {
            Vec* sum = partials.of[t] + block * 4;
            unroll<4>([&](auto v) __attribute__((always_inline)) {
              sum[v] = _mm512_fmadd_ps(weights.of[v], _mm512_loadu_ps(from + v * 16), sum[v]);
            });
          }
        });
  }

  /// The tree's upper levels, down to 16 sums in the order of columns.
  static HR_INLINE Vec add_up(Vec* sum) {
    unroll<8>([&](auto i)
                  __attribute__((always_inline)) { sum[i] = Avx512::add(sum[i], sum[i + 8]); });
    unroll<4>([&](auto i)
                  __attribute__((always_inline)) { sum[i] = Avx512::add(sum[i], sum[i + 4]); });
    return add_within_block(sum);
  }

  /// p[j] + p[j + 32], then + p[j + 16], of 64 partial sums in the order of Floats.
  static HR_INLINE Vec add_within_block(const Vec* sum) {
    // The halves of a, then of b, each the sum of the two.
    const auto fold = [](Vec a, Vec b) __attribute__((always_inline)) {
      return Avx512::add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    };
    if constexpr (kType == DType::kBFloat16) {
      const Vec even = fold(sum[0], sum[2]);
      const Vec odd = fold(sum[1], sum[3]);
      const Vec both =
          Avx512::add(_mm512_shuffle_f32x4(even, odd, 0x88), _mm512_shuffle_f32x4(even, odd, 0xdd));
      // Columns 0 2 4 6, 8 10 12 14, 1 3 5 7, 9 11 13 15.
      const __m512i order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
      return _mm512_permutexvar_ps(order, both);
    } else {
      return fold(Avx512::add(sum[0], sum[1]), Avx512::add(sum[2], sum[3]));
    }
  }
};

/// Calls body with the kernels of a codec and a dtype.
template <typename Body>
HR_INLINE void with_kernels(CodecId codec, DType dtype, Body body) {
  if (dtype == DType::kFloat16) {
    body(VbmiCoded<CodecId::kE3, DType::kFloat16>{});
  } else if (codec == CodecId::kE3) {
    body(VbmiCoded<CodecId::kE3, DType::kBFloat16>{});
  } else {
    body(VbmiCoded<CodecId::kE4, DType::kBFloat16>{});
  }
}

void decode(const RowLayout& layout, const std::byte* row, std::byte* out) {
  with_kernels(layout.codec, layout.dtype, [&](auto of) { of.decode(layout, row, out); });
}

void reorder_x(DType dtype, const std::byte* x, size_t x_stride_bytes, int64_t tokens, int64_t k,
               float* reordered) {
  with_kernels(CodecId::kE3, dtype,
               [&](auto of) { of.reorder_x(x, x_stride_bytes, tokens, k, reordered); });
}

void multiply_few(const MatrixRows& rows, const RowLayout& layout, const float* x) {
  with_kernels(layout.codec, layout.dtype, [&](auto of) { of.multiply(rows, layout, x); });
}

constexpr CodedKernels kTable = {
    .decode = decode, .reorder_x = reorder_x, .multiply_few = multiply_few};

}  // namespace

const CodedKernels* vbmi_coded_kernels() { return &kTable; }

}  // namespace headrace::cpu

#else  // another architecture

namespace headrace::cpu {

const CodedKernels* vbmi_coded_kernels() { return nullptr; }

}  // namespace headrace::cpu

#endif
