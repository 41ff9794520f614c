// Compiled with this instruction set's flags (src/kernels/kernels.cmake); nothing here may run
// before the processor is known to have it (isa.cpp).
#include "kernels/cpu/coded_kernels.h"

#if defined(__AVX2__)

#include <array>
#include <bit>

#include <immintrin.h>

#include "kernels/cpu/coded_group.h"

namespace headrace::cpu {
namespace {

/// By a mask of 8 columns: the shuffle that puts consecutive bytes at the columns of the mask, and
/// zeros elsewhere.
constexpr std::array<uint64_t, 256> make_spreads() {
  std::array<uint64_t, 256> spreads = {};
  for (unsigned mask = 0; mask < 256; ++mask) {
    uint64_t next = 0;
    for (unsigned i = 0; i < 8; ++i) {
      spreads[mask] |= ((mask >> i & 1) != 0 ? next++ : uint64_t{0x80}) << (8 * i);
    }
  }
  return spreads;
}
constexpr std::array<uint64_t, 256> kSpreads = make_spreads();

template <CodecId kCodec, DType kType>
class Avx2Row {
 public:
  using Group = CodedGroup<kCodec, kType>;
  static constexpr int64_t kBlock = 32;  // columns
  static constexpr int64_t kPrefetchBytes = 4096;

  Avx2Row(const RowLayout& layout, const std::byte* row)
      : layout_(layout), row_(row), escapes_(row) {
    const __m128i book = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
    const __m128i without_0 = _mm_and_si128(book, _mm_setr_epi32(~0xff, -1, -1, -1));
    book_ = _mm256_broadcastsi128_si256(without_0);
  }

  void decode(std::byte* out) {
    for (uint64_t at = 0; at < layout_.groups_offset; at += 64) prefetch(row_ + at);
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      const Group group(layout_, row_, g);
      const int64_t bytes = group.bytes_of_a_chunk();
      for (int64_t c = 0; c < group.chunks; ++c) {
        for (int64_t at = 0; at < bytes; at += 64) prefetch(group.low + c * bytes + at);
        if (c < group.planes) {
          decode_chunk<false>(group, c, out);
        } else {
          decode_chunk<true>(group, c, out);
        }
        out += RowLayout::kChunk * 2;
      }
    }
  }

 private:
  template <bool kSpread>
  HR_INLINE void decode_chunk(const Group& group, int64_t c, std::byte* out) {
    for (int64_t i = 0; i < RowLayout::kChunk; i += kBlock, out += kBlock * 2) {
      const __m256i low = _mm256_loadu_si256(
          reinterpret_cast<const __m256i*>(group.low + c * RowLayout::kChunk + i));
      const __m256i exponents = look_up(nibbles<kSpread>(group.codes + i / 2, c));
      if constexpr (kType == DType::kBFloat16) {
        const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
        store(select(sign, _mm256_slli_epi16(exponents, 7), low),
              select(sign, low, _mm256_srli_epi16(exponents, 1)), out);
      } else {
        const __m256i rest =
            _mm256_and_si256(nibbles<kSpread>(group.rests + i / 2, c), _mm256_set1_epi8(7));
        const __m256i rests = _mm256_shuffle_epi8(_mm256_set1_epi64x(kRests), rest);
        const __m256i shifted =
            _mm256_and_si256(_mm256_slli_epi16(exponents, 2), _mm256_set1_epi8(0x7c));
        store(low, _mm256_or_si256(shifted, rests), out);
      }
    }
  }

  /// mask ? a : b, bit by bit.
  static HR_INLINE __m256i select(__m256i mask, __m256i a, __m256i b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
  }

  static HR_INLINE void store(__m256i low, __m256i high, std::byte* out) {
    const __m256i first = _mm256_unpacklo_epi8(low, high);  // columns 0 - 7 of each 16
    const __m256i second = _mm256_unpackhi_epi8(low, high);
    auto* to = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(first, second, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(first, second, 0x31));
  }

  /// A nibble a column, in the byte's low half. `words`: where the block's lie in plane 0.
  template <bool kSpread>
  static HR_INLINE __m256i nibbles(const std::byte* words, int64_t c) {
    const auto plane = [&](int64_t p) __attribute__((always_inline)) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(words + p * Group::kPlaneBytes));
    };
    __m128i codes;
    if constexpr (kSpread) {
      const __m128i ones = _mm_set1_epi32(0x11111111);
      const auto high_bit = [&](int64_t p) __attribute__((always_inline)) {
        return _mm_and_si128(_mm_srli_epi32(plane(p), 3), ones);
      };
      codes = _mm_or_si128(high_bit(0), _mm_or_si128(_mm_slli_epi32(high_bit(1), 1),
                                                     _mm_slli_epi32(high_bit(2), 2)));
    } else {
      codes = plane(c);
    }
    const __m128i even = _mm_and_si128(codes, _mm_set1_epi8(0x0f));
    const __m128i odd = _mm_and_si128(_mm_srli_epi16(codes, 4), _mm_set1_epi8(0x0f));
    return _mm256_set_m128i(_mm_unpackhi_epi8(even, odd), _mm_unpacklo_epi8(even, odd));
  }

  HR_INLINE __m256i look_up(__m256i codes) {
    if constexpr (kCodec == CodecId::kE3) codes = _mm256_and_si256(codes, _mm256_set1_epi8(7));
    const auto escaped = static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(codes, _mm256_setzero_si256())));
    const __m256i coded = _mm256_shuffle_epi8(book_, codes);  // 0 where escaped
    const __m128i a = take(escaped & 0xff);
    const __m128i b = take(escaped >> 8 & 0xff);
    const __m128i c = take(escaped >> 16 & 0xff);
    const __m128i d = take(escaped >> 24);
    return _mm256_or_si256(coded,
                           _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b)));
  }

  /// The next escapes, at the columns of the mask.
  HR_INLINE __m128i take(uint32_t mask) {
    const __m128i next = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(escapes_.next()));
    const __m128i spread = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(&kSpreads[mask]));
    escapes_.skip(std::popcount(mask));
    return _mm_shuffle_epi8(next, spread);
  }

  static HR_INLINE void prefetch(const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes), _MM_HINT_T1);
  }

  /// Sign and high bits of a float16's mantissa in its high byte, by "rest".
  static constexpr long long kRests = static_cast<long long>(0x8382818003020100);

  const RowLayout& layout_;
  const std::byte* row_;
  EscapeReader escapes_;
  __m256i book_;
};

void decode(const RowLayout& layout, const std::byte* row, std::byte* out) {
  if (layout.dtype == DType::kFloat16) {
    Avx2Row<CodecId::kE3, DType::kFloat16>(layout, row).decode(out);
  } else if (layout.codec == CodecId::kE3) {
    Avx2Row<CodecId::kE3, DType::kBFloat16>(layout, row).decode(out);
  } else {
    Avx2Row<CodecId::kE4, DType::kBFloat16>(layout, row).decode(out);
  }
}

constexpr CodedKernels kTable = {.decode = decode, .reorder_x = nullptr, .multiply_few = nullptr};

}  // namespace

const CodedKernels* avx2_coded_kernels() { return &kTable; }

}  // namespace headrace::cpu

#else  // another architecture

namespace headrace::cpu {

const CodedKernels* avx2_coded_kernels() { return nullptr; }

}  // namespace headrace::cpu

#endif
