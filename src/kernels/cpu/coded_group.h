#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/row_layout.h"
#include "kernels/cpu/unroll.h"

namespace headrace::cpu {
namespace {  // as the vector classes: of one instruction set

/// The parts of a group of a coded row, and where a chunk's lie in them.
template <CodecId kCodec, DType kType>
struct CodedGroup {
  static constexpr int64_t kPlaneBytes = RowLayout::kLanes * 4;
  static constexpr int64_t kPlaneKinds = kType == DType::kFloat16 ? 2 : 1;  // codes, rests
  static constexpr int64_t kBytes =
      RowLayout::kGroupChunks * RowLayout::kChunk +
      kPlaneKinds * (kCodec == CodecId::kE3 ? 3 : RowLayout::kGroupChunks) * kPlaneBytes;

  CodedGroup(const RowLayout& layout, const std::byte* row, int64_t group)
      : chunks(layout.chunks_of(group)),
        planes(RowLayout::code_words(kCodec, chunks)),
        low(row + layout.groups_offset + group * kBytes),
        codes(low + chunks * RowLayout::kChunk),
        rests(codes + planes * kPlaneBytes) {}

  /// On the average.
  int64_t bytes_of_a_chunk() const {
    if (chunks == RowLayout::kGroupChunks) return kBytes / RowLayout::kGroupChunks;
    return RowLayout::kChunk + kPlaneKinds * kPlaneBytes;
  }

  int64_t chunks;
  int64_t planes;  // fewer than chunks: the last one's codes are spread over the others' high bits
  const std::byte* low;
  const std::byte* codes;
  const std::byte* rests;  // float16 alone has them
};

/// The row's exponents that have no code, as they are taken. Stays in the row, whatever its bytes
/// are: a column takes one at most, and the groups after the escapes hold more than a byte for
/// each.
class EscapeReader {
 public:
  explicit EscapeReader(const std::byte* row) : next_(row + RowLayout::kBookBytes) {}

  /// As many bytes as there are columns left can be read here.
  HR_INLINE const std::byte* next() const { return next_; }
  HR_INLINE void skip(int64_t count) { next_ += count; }

 private:
  const std::byte* next_;
};

}  // namespace
}  // namespace headrace::cpu
