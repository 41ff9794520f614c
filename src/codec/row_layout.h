#pragma once

#include <cstdint>

#include "codec/codec_id.h"
#include "tensor/dtype.h"

namespace headrace {

/// Where the parts of a coded row lie (docs/engine-format.md, "Coded rows"). All rows of a run have
/// the same size, the row stride, so that row r begins at r * stride, whatever the weights are:
///
/// - book: 16 bytes. Entry c is the exponent that code c stands for; entry 0 is not used.
/// - escapes: for every element of code 0 a byte, its exponent, in column order; zeros after them.
/// - groups of kGroupChunks chunks of 256 columns (the last group may have fewer). Each has
///   - low bytes, 256 a chunk, in column order: of bfloat16 sign and mantissa, of float16 the low 8
///     bits of the mantissa;
///   - the codes of its exponents;
///   - of float16 alone rests: sign and the mantissa's 2 high bits, packed like 3-bit codes.
///
/// Lane t of a chunk holds its columns 8t .. 8t + 7, as in the canonical sum (docs/numerics.md).
/// Codes are words of 32 bits, [word][32 lanes]: nibble e of word c is the code of column 8t + e of
/// chunk c. 3-bit codes of a whole group need no word for chunk 3: its codes are spread over the
/// nibbles' high bits, bit b in word b.
///
/// Columns past k, up to a whole chunk, hold +0 with an exponent that is not the largest one, so
/// that their product with -0 is -0.
struct RowLayout {
  static constexpr int64_t kChunk = 256;  // columns
  static constexpr int64_t kLanes = 32;
  static constexpr int64_t kGroupChunks = 4;
  static constexpr uint64_t kBookBytes = 16;
  static constexpr uint64_t kStrideAlignment = 64;  // 64 rows are whole pages

  int64_t k = 0;
  DType dtype = DType::kBFloat16;
  CodecId codec = CodecId::kE3;
  uint64_t stride_bytes = 0;
  uint64_t escape_capacity = 0;  // escapes that fit in a row
  uint64_t groups_offset = 0;

  int64_t chunks() const { return (k + kChunk - 1) / kChunk; }
  int64_t groups() const { return (chunks() + kGroupChunks - 1) / kGroupChunks; }
  /// Chunks of a group: 4, or what is left for the last.
  int64_t chunks_of(int64_t group) const {
    const int64_t left = chunks() - group * kGroupChunks;
    return left < kGroupChunks ? left : kGroupChunks;
  }
  uint64_t group_offset(int64_t group) const {
    return groups_offset + static_cast<uint64_t>(group) * group_bytes(codec, dtype, kGroupChunks);
  }
  /// Of `chunks` chunks: words of codes for each lane.
  static int64_t code_words(CodecId codec, int64_t chunks) {
    return codec == CodecId::kE3 && chunks == kGroupChunks ? 3 : chunks;
  }
  static uint64_t group_bytes(CodecId codec, DType dtype, int64_t chunks);
  static uint64_t groups_bytes(CodecId codec, DType dtype, int64_t k);

  /// The layout of rows `stride_bytes` apart. REQUIRES: fits().
  static RowLayout of(CodecId codec, DType dtype, int64_t k, uint64_t stride_bytes);
  /// The least stride whose rows have room for so many escapes.
  static uint64_t stride_for(CodecId codec, DType dtype, int64_t k, uint64_t escapes);
  /// Whether such rows can be: the codec is for the dtype, and the stride is aligned and has room.
  static bool fits(CodecId codec, DType dtype, int64_t k, uint64_t stride_bytes);
};

}  // namespace headrace
