#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "codec/codec_id.h"
#include "tensor/dtype.h"

namespace headrace {

/// How the tiles of a matrix are stored: raw, or coded with one codec and row stride.
struct MatrixCoding {
  CodecId codec = CodecId::kRaw;
  uint64_t row_stride_bytes = 0;  // of coded tiles
  std::vector<bool> coded = {};   // by tile; empty if none is

  CodecId of_tile(size_t tile) const {
    return tile < coded.size() && coded[tile] ? codec : CodecId::kRaw;
  }
};

/// The codecs that a build's --tile_codec allows for a dtype; empty for none.
/// Error{kInvalidArgument} for a name that is not known, and for a codec that is not for the dtype.
std::vector<CodecId> allowed_codecs(std::string_view tile_codec, DType dtype);

/// Finds the coding of a matrix that takes the fewest bytes. All rows of a coded matrix share one
/// stride, so that a row with many escapes costs all of them: the tiles with the most escapes stay
/// raw where that is smaller. Confined to one thread, which lends the pool's.
class CodingChoice {
 public:
  /// `tile_rows` rows a tile, the last may have fewer.
  CodingChoice(std::vector<CodecId> codecs, DType dtype, int64_t rows, int64_t k,
               int64_t tile_rows);

  /// Takes account of the packed rows [row_begin, ...). Each row once, in any order.
  void add_rows(int64_t row_begin, std::span<const std::byte> packed, ThreadPool& pool);
  MatrixCoding choose() const;
  /// Bytes of the matrix, its tiles in whole pages, if only `codec` may code them; of kRaw: if none
  /// is coded. REQUIRES: kRaw, or one of the constructor's.
  uint64_t bytes_with(CodecId codec) const;

 private:
  struct Sizes {
    uint64_t bytes = 0;
    uint64_t capacity = 0;
  };
  int64_t rows_of(size_t tile) const;
  Sizes best_capacity(size_t codec) const;
  uint64_t size_with(size_t codec, uint64_t capacity, std::vector<bool>* coded) const;
  uint64_t raw_bytes() const;

  const std::vector<CodecId> codecs_;
  const DType dtype_;
  const int64_t rows_;
  const int64_t k_;
  const int64_t tile_rows_;
  std::vector<std::vector<uint64_t>> most_escapes_;  // by codec and tile: of one row
};

}  // namespace headrace
