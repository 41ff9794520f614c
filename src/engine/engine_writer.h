#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/file.h"
#include "checkpoint/model_config.h"
#include "engine/layout.h"
#include "engine/manifest.h"

namespace headrace {

/// Fills `out` with the rows [row_begin, row_begin + rows) of a matrix, packed, in the model's
/// dtype.
using RowReader = std::function<void(int64_t row_begin, int64_t rows, std::span<std::byte> out)>;

/// Writes an engine's weight file front to back: every matrix in pass order, the embedding table if
/// the model has one of its own, every vector, then finish(). Holds a few MiB (or a few rows, if
/// those are longer), whatever the sizes. Borrows `file`. Confined to one thread.
class EngineWriter {
 public:
  /// Decides where everything will lie (lay_out_manifest, whose errors it has). REQUIRES: `file` is
  /// empty; `model` is valid.
  EngineWriter(WritableFile& file, const ModelConfig& model, uint64_t tile_bytes);

  /// REQUIRES: matrices come in the order of matrix_spec.
  void add_matrix(const TensorSpec& spec, const RowReader& read_rows);
  /// REQUIRES: the embedding is not tied; all matrices are written.
  void add_embedding(const RowReader& read_rows);
  /// REQUIRES: vectors come in the order of vector_spec, after the matrices and the embedding.
  void add_vector(const TensorSpec& spec, std::span<const float> values);
  /// Writes manifest and header, and returns the manifest. Does not sync the file.
  Manifest finish();

 private:
  void add_tile(const MatrixInfo& matrix, TileInfo& tile, const RowReader& read_rows);
  std::span<std::byte> read_chunk(const RowReader& read_rows, int64_t row_begin, int64_t rows,
                                  uint64_t row_bytes, uint64_t stride);
  void pad_to(uint64_t offset);

  WritableFile& file_;
  const ModelConfig model_;
  Manifest manifest_;
  size_t next_matrix_ = 0;
  size_t next_vector_ = 0;
  std::vector<std::byte> packed_;
  std::vector<std::byte> strided_;
};

}  // namespace headrace
