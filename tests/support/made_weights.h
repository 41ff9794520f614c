#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/manifest.h"

namespace headrace::testing {

/// Shape of made_weights().
struct MadeShape {
  int64_t layers = 2;
  int64_t hidden = 72;
  int64_t intermediate = 100;
  int64_t vocab = 700;
  int64_t tile_rows = 64;
  DType dtype = DType::kFloat16;
  uint64_t seed = 1;
};

/// A Llama's matrices as an engine file lays them out, made by hand: tiles of whole rows on pages,
/// strides of 16 bytes, 64 bytes or more after each matrix; no header, vectors or embedding.
struct MadeWeights {
  Manifest manifest;
  std::vector<std::byte> content;

  /// The stored bytes of rows [row_begin, row_begin + rows) of a matrix.
  std::span<const std::byte> rows(uint32_t matrix, int64_t row_begin, int64_t rows) const;
  /// Writes `content` to a file.
  void write(const std::string& path) const;
};

MadeWeights make_weights(const MadeShape& shape);

}  // namespace headrace::testing
