#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/thread_pool.h"
#include "checkpoint/model_config.h"
#include "codec/row_layout.h"
#include "engine/layout.h"
#include "engine/manifest.h"
#include "engine/manifest_layout.h"

namespace headrace {

/// Fills `out` with the rows [row_begin, row_begin + rows) of a matrix, packed, in the model's
/// dtype.
using RowReader = std::function<void(int64_t row_begin, int64_t rows, std::span<std::byte> out)>;

/// Writes an engine's weight file front to back: every matrix in pass order, the embedding table if
/// the model has one of its own, every vector, then finish(). Holds a few MiB (or a few rows, if
/// those are longer), whatever the sizes. Borrows `file`. Confined to one thread.
class EngineWriter {
 public:
  /// `codecs` are those that tiles may have beside raw (allowed_codecs()). Has the errors of
  /// ManifestLayout. REQUIRES: `file` is empty; `model` is valid; `pool` outlives this.
  EngineWriter(WritableFile& file, const ModelConfig& model, uint64_t tile_bytes,
               std::vector<CodecId> codecs, ThreadPool& pool);

  /// Reads all rows once, or twice if tiles may be coded: first to choose the codec. REQUIRES:
  /// matrices come in the order of matrix_spec.
  void add_matrix(const TensorSpec& spec, const RowReader& read_rows);
  /// REQUIRES: the embedding is not tied; all matrices are written.
  void add_embedding(const RowReader& read_rows);
  /// REQUIRES: vectors come in the order of vector_spec, after the matrices and the embedding.
  void add_vector(const TensorSpec& spec, std::span<const float> values);
  /// Bytes that the matrices so far would take if only this codec might code them, by codec, raw
  /// among them (CodingChoice::bytes_with); empty if none may be coded.
  const std::map<CodecId, uint64_t>& bytes_with() const { return bytes_with_; }
  /// Writes manifest and header, and returns the manifest. Does not sync the file.
  Manifest finish();

 private:
  MatrixCoding choose_coding(const TensorSpec& spec, const RowReader& read_rows);
  void add_tile(const MatrixInfo& matrix, TileInfo& tile, const RowReader& read_rows);
  std::span<std::byte> read_packed(const RowReader& read_rows, int64_t row_begin, int64_t rows,
                                   uint64_t row_bytes);
  std::span<std::byte> read_chunk(const RowReader& read_rows, int64_t row_begin, int64_t rows,
                                  uint64_t row_bytes, uint64_t stride);
  std::span<std::byte> encode_chunk(const RowLayout& layout, const RowReader& read_rows,
                                    int64_t row_begin, int64_t rows);
  void pad_to(uint64_t offset);

  WritableFile& file_;
  const ModelConfig model_;
  const std::vector<CodecId> codecs_;
  ThreadPool& pool_;
  ManifestLayout layout_;
  Manifest& manifest_;
  std::map<CodecId, uint64_t> bytes_with_;
  size_t next_vector_ = 0;
  std::vector<std::byte> packed_;
  std::vector<std::byte> strided_;
};

}  // namespace headrace
