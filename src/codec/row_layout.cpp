#include "codec/row_layout.h"

namespace headrace {
namespace {

constexpr uint64_t kWordBytes = 4;

}  // namespace

uint64_t RowLayout::group_bytes(CodecId codec, DType dtype, int64_t chunks) {
  const int64_t planes = dtype == DType::kFloat16 ? 2 : 1;  // of codes, or packed like them
  const int64_t words = planes * code_words(codec, chunks) * kLanes;
  return static_cast<uint64_t>(chunks * kChunk) + static_cast<uint64_t>(words) * kWordBytes;
}

uint64_t RowLayout::groups_bytes(CodecId codec, DType dtype, int64_t k) {
  const int64_t chunks = (k + kChunk - 1) / kChunk;
  const uint64_t whole =
      static_cast<uint64_t>(chunks / kGroupChunks) * group_bytes(codec, dtype, kGroupChunks);
  const int64_t left = chunks % kGroupChunks;
  return left == 0 ? whole : whole + group_bytes(codec, dtype, left);
}

RowLayout RowLayout::of(CodecId codec, DType dtype, int64_t k, uint64_t stride_bytes) {
  const uint64_t groups = groups_bytes(codec, dtype, k);
  return {.k = k,
          .dtype = dtype,
          .codec = codec,
          .stride_bytes = stride_bytes,
          .escape_capacity = stride_bytes - kBookBytes - groups,
          .groups_offset = stride_bytes - groups};
}

uint64_t RowLayout::stride_for(CodecId codec, DType dtype, int64_t k, uint64_t escapes) {
  const uint64_t bytes = kBookBytes + escapes + groups_bytes(codec, dtype, k);
  return (bytes + kStrideAlignment - 1) / kStrideAlignment * kStrideAlignment;
}

bool RowLayout::fits(CodecId codec, DType dtype, int64_t k, uint64_t stride_bytes) {
  return codec != CodecId::kRaw && codec_fits(codec, dtype) &&
         stride_bytes % kStrideAlignment == 0 && stride_bytes >= stride_for(codec, dtype, k, 0);
}

}  // namespace headrace
