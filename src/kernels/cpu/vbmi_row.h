#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "kernels/cpu/coded_group.h"
#include "kernels/cpu/unroll.h"

namespace headrace::cpu {
namespace {

/// 64 columns of a coded row at a time, with AVX-512 VBMI and VBMI2.
template <CodecId kCodec, DType kType>
class VbmiRow {
 public:
  using Group = CodedGroup<kCodec, kType>;
  static constexpr int kBlock = 64;  // columns
  static constexpr int kBlocks = static_cast<int>(RowLayout::kChunk) / kBlock;
  // Ahead of what is read: as far as memory takes, into the second-level cache, and from there.
  static constexpr int64_t kPrefetchBytes = 8192;
  static constexpr int64_t kSecondPrefetchBytes = 1024;

  VbmiRow(const RowLayout& layout, const std::byte* row)
      : layout_(layout), row_(row), escapes_(row) {
    // vpermb looks at 6 bits of an index: a book that fills the register needs no mask.
    if constexpr (kCodec == CodecId::kE3) {
      book_ = _mm512_set1_epi64(
          _mm_cvtsi128_si64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row))));
    } else {
      book_ = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
    }
  }

  /// body(column, block, low bytes, high bytes) for every 64 columns, in order, where block is a
  /// constant: (column % 256) / 64. Asks for the memory that follows.
  template <typename Body>
  HR_INLINE void for_blocks(Body body) {
    const std::byte* ahead = row_ + kPrefetchBytes;
    for (uint64_t at = 0; at < layout_.groups_offset; at += 64) prefetch(ahead + at);
    ahead += layout_.groups_offset;
    int64_t column = 0;
    const auto next_chunk = [&]<bool kSpread>(const Group& group, int64_t c)
                                __attribute__((always_inline)) {
                                  chunk<kSpread>(group, c, column, ahead, body);
                                  column += RowLayout::kChunk;
                                };
    for (int64_t g = 0; g < layout_.groups(); ++g) {
      const Group group(layout_, row_, g);
      for (int64_t c = 0; c < group.planes; ++c) {
        next_chunk.template operator()<false>(group, c);
        ahead += group.bytes_of_a_chunk();
      }
      if (group.planes < group.chunks) {
        next_chunk.template operator()<true>(group, group.planes);
        ahead += group.bytes_of_a_chunk();
      }
    }
  }

 private:
  /// Cache lines that a chunk takes at most.
  static constexpr int kChunkLines = kType == DType::kFloat16 ? 8 : 6;

  template <bool kSpread, typename Body>
  HR_INLINE void chunk(const Group& group, int64_t c, int64_t column, const std::byte* ahead,
                       Body body) {
    unroll<kBlocks>([&](auto block) __attribute__((always_inline)) {
      // Spread over the chunk: a burst would wait for the processor's few line buffers.
      unroll<kChunkLines>([&](auto line) __attribute__((always_inline)) {
        if constexpr (line * kBlocks / kChunkLines == block) prefetch(ahead + line * 64);
      });
      const int64_t at = block * (Group::kPlaneBytes / kBlocks);
      const __m512i low = _mm512_loadu_si512(group.low + c * RowLayout::kChunk + block * kBlock);
      const __m256i codes = words<kSpread>(group.codes + at, c);
      // 0xca: first ? second : third, bit by bit.
      if constexpr (kType == DType::kBFloat16) {
        const __m512i exponents = look_up(nibbles<0>(_mm512_cvtepu32_epi64(codes)));
        const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
        const __m512i high =
            _mm512_ternarylogic_epi32(sign, low, _mm512_srli_epi16(exponents, 1), 0xca);
        const __m512i under =
            _mm512_ternarylogic_epi32(sign, _mm512_slli_epi16(exponents, 7), low, 0xca);
        body(column + block * kBlock, block, under, high);
      } else {
        // Both words of a lane side by side, as two shuffles would bring them there.
        const __m512i in_turn =
            _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        const __m512i both =
            _mm512_permutex2var_epi32(_mm512_castsi256_si512(codes), in_turn,
                                      _mm512_castsi256_si512(words<kSpread>(group.rests + at, c)));
        const __m512i exponents = look_up(nibbles<0>(both));
        const __m512i rests = nibbles<32>(both);
        const __m512i around = _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(0x80)),
                                                         _mm512_slli_epi16(rests, 5), rests, 0xca);
        const __m512i high = _mm512_ternarylogic_epi32(
            _mm512_set1_epi8(0x7c), _mm512_slli_epi16(exponents, 2), around, 0xca);
        body(column + block * kBlock, block, low, high);
      }
    });
  }

  /// The words of a block's 8 lanes: a nibble a column, of which e3 uses 3 bits. `plane_0`: where
  /// they lie in plane 0.
  template <bool kSpread>
  static HR_INLINE __m256i words(const std::byte* plane_0, int64_t c) {
    const auto plane = [&](int64_t p) __attribute__((always_inline)) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane_0 + p * Group::kPlaneBytes));
    };
    if constexpr (!kSpread) return plane(c);
    const __m256i bit0 = _mm256_srli_epi32(plane(0), 3);  // the nibbles' high bits
    const __m256i bit1 = _mm256_srli_epi32(plane(1), 2);
    const __m256i bit2 = _mm256_srli_epi32(plane(2), 1);
    return _mm256_ternarylogic_epi32(
        _mm256_set1_epi32(0x11111111), bit0,
        _mm256_ternarylogic_epi32(_mm256_set1_epi32(0x22222222), bit1, bit2, 0xca), 0xca);
  }

  /// The nibbles of the word that begins at bit kFrom of each 64, one in each byte's low half; what
  /// is above is of no interest.
  template <int kFrom>
  static HR_INLINE __m512i nibbles(__m512i lanes) {
    const __m512i offsets = _mm512_set1_epi64(0x1c1814100c080400 + kFrom * 0x0101010101010101);
    return _mm512_multishift_epi64_epi8(offsets, lanes);
  }

  HR_INLINE __m512i look_up(__m512i codes) {
    const __m512i used = _mm512_set1_epi8(kCodec == CodecId::kE3 ? 0x07 : 0x0f);
    const __mmask64 escaped = _mm512_testn_epi8_mask(codes, used);
    __m512i next = _mm512_loadu_si512(escapes_.next());
    asm("" : "+v"(next));  // expanding from memory is slow (microcode on Zen 4)
    const __m512i exponents =
        _mm512_mask_expand_epi8(_mm512_permutexvar_epi8(codes, book_), escaped, next);
    escapes_.skip(static_cast<int64_t>(_mm_popcnt_u64(escaped)));
    return exponents;
  }

  /// at: kPrefetchBytes ahead.
  static HR_INLINE void prefetch(const std::byte* at) {
    _mm_prefetch(at, _MM_HINT_T1);
    _mm_prefetch(at - kPrefetchBytes + kSecondPrefetchBytes, _MM_HINT_T0);
  }

  const RowLayout& layout_;
  const std::byte* row_;
  EscapeReader escapes_;
  __m512i book_;
};

}  // namespace
}  // namespace headrace::cpu
