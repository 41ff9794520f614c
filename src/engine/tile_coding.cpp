#include "engine/tile_coding.h"

#include <algorithm>

#include "base/error.h"
#include "codec/row_code.h"
#include "engine/format.h"

namespace headrace {
namespace {

constexpr int64_t kRowsAtATime = 4;  // that a thread takes

}  // namespace

std::vector<CodecId> allowed_codecs(std::string_view tile_codec, DType dtype) {
  if (tile_codec == "none") return {};
  std::vector<CodecId> codecs = {CodecId::kE3, CodecId::kE4};
  if (tile_codec == "auto") {
    std::erase_if(codecs, [&](CodecId codec) { return !codec_fits(codec, dtype); });
    return codecs;
  }
  const std::optional<CodecId> codec = codec_of_name(tile_codec);
  if (!codec || codec == CodecId::kRaw) {
    fail(ErrorCode::kInvalidArgument, "[build] --tile_codec {}: use auto, none, e3 or e4",
         tile_codec);
  }
  if (!codec_fits(*codec, dtype)) {
    fail(ErrorCode::kInvalidArgument, "[build] --tile_codec {} is not for {} weights: use {}",
         tile_codec, dtype_name(dtype),
         codec_fits(CodecId::kE3, dtype) ? "e3, auto or none" : "auto or none");
  }
  return {*codec};
}

CodingChoice::CodingChoice(std::vector<CodecId> codecs, DType dtype, int64_t rows, int64_t k,
                           int64_t tile_rows)
    : codecs_(std::move(codecs)),
      dtype_(dtype),
      rows_(rows),
      k_(k),
      tile_rows_(tile_rows),
      most_escapes_(codecs_.size()) {
  const auto tiles = static_cast<size_t>((rows + tile_rows - 1) / tile_rows);
  for (auto& of_codec : most_escapes_) of_codec.resize(tiles);
}

int64_t CodingChoice::rows_of(size_t tile) const {
  return std::min(tile_rows_, rows_ - static_cast<int64_t>(tile) * tile_rows_);
}

void CodingChoice::add_rows(int64_t row_begin, std::span<const std::byte> packed,
                            ThreadPool& pool) {
  const auto columns = static_cast<size_t>(k_);
  const auto* const elements = reinterpret_cast<const uint16_t*>(packed.data());
  const auto count = static_cast<int64_t>(packed.size() / row_bytes(k_, dtype_));
  for (size_t c = 0; c < codecs_.size(); ++c) {
    std::vector<uint64_t> escapes(static_cast<size_t>(count));
    pool.parallel_for(count, kRowsAtATime, [&](int64_t begin, int64_t end) {
      for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
        const RowBook book = choose_book(codecs_[c], dtype_, {elements + r * columns, columns});
        escapes[r] = static_cast<uint64_t>(book.escapes);
      }
    });
    for (int64_t r = 0; r < count; ++r) {
      uint64_t& most = most_escapes_[c][static_cast<size_t>((row_begin + r) / tile_rows_)];
      most = std::max(most, escapes[static_cast<size_t>(r)]);
    }
  }
}

/// Bytes of the matrix if tiles are coded whose rows have no more escapes, and shrink by it.
uint64_t CodingChoice::size_with(size_t codec, uint64_t capacity, std::vector<bool>* coded) const {
  const uint64_t stride = RowLayout::stride_for(codecs_[codec], dtype_, k_, capacity);
  const uint64_t raw_stride = row_stride_bytes(k_, dtype_);
  uint64_t bytes = 0;
  for (size_t t = 0; t < most_escapes_[codec].size(); ++t) {
    const auto rows = static_cast<uint64_t>(rows_of(t));
    const bool shrinks = most_escapes_[codec][t] <= capacity && stride < raw_stride;
    bytes += align_up(rows * (shrinks ? stride : raw_stride), kPageBytes);
    if (coded != nullptr) coded->push_back(shrinks);
  }
  return bytes;
}

CodingChoice::Sizes CodingChoice::best_capacity(size_t codec) const {
  std::vector<uint64_t> capacities = most_escapes_[codec];
  std::ranges::sort(capacities);
  const auto last =
      std::unique(capacities.begin(), capacities.end());  // (Clang 14 has no ranges::unique)
  capacities.erase(last, capacities.end());
  // Most matrices have rows of much the same kind; among very many sizes, a sample is good enough.
  const size_t step = std::max<size_t>(1, capacities.size() / 64);
  Sizes best{.bytes = size_with(codec, capacities.back(), nullptr), .capacity = capacities.back()};
  for (size_t i = 0; i < capacities.size(); i += step) {
    const uint64_t bytes = size_with(codec, capacities[i], nullptr);
    if (bytes < best.bytes) best = {.bytes = bytes, .capacity = capacities[i]};
  }
  return best;
}

uint64_t CodingChoice::raw_bytes() const {
  const uint64_t raw_stride = row_stride_bytes(k_, dtype_);
  uint64_t bytes = 0;
  const auto tiles = static_cast<size_t>((rows_ + tile_rows_ - 1) / tile_rows_);
  for (size_t t = 0; t < tiles; ++t) {
    bytes += align_up(static_cast<uint64_t>(rows_of(t)) * raw_stride, kPageBytes);
  }
  return bytes;
}

uint64_t CodingChoice::bytes_with(CodecId codec) const {
  if (codec == CodecId::kRaw) return raw_bytes();
  const auto at = std::ranges::find(codecs_, codec);
  HR_CHECK(at != codecs_.end());
  return best_capacity(static_cast<size_t>(at - codecs_.begin())).bytes;
}

MatrixCoding CodingChoice::choose() const {
  uint64_t least = raw_bytes();
  MatrixCoding coding;
  for (size_t c = 0; c < codecs_.size(); ++c) {
    const Sizes sizes = best_capacity(c);
    if (sizes.bytes >= least) continue;
    least = sizes.bytes;
    coding = {.codec = codecs_[c],
              .row_stride_bytes = RowLayout::stride_for(codecs_[c], dtype_, k_, sizes.capacity)};
    size_with(c, sizes.capacity, &coding.coded);
  }
  return coding;
}

}  // namespace headrace
