#pragma once

#include <cstdint>
#include <functional>

#include "checkpoint/model_config.h"
#include "engine/layout.h"
#include "engine/manifest.h"
#include "engine/tile_coding.h"

namespace headrace {

/// Decides where everything of a model's weight file lies (docs/engine-format.md), matrix by
/// matrix: how much room a coded one takes is known when its weights have been seen.
class ManifestLayout {
 public:
  /// REQUIRES: `model` is valid, within the format's limits, and outlives this.
  /// Error{kInvalidArgument} if there are more tiles than a manifest can list.
  ManifestLayout(const ModelConfig& model, uint64_t tile_bytes);

  /// Rows of the tiles of a matrix with rows of k elements.
  int64_t tile_rows(int64_t k) const;
  /// REQUIRES: matrices come in the order of matrix_spec().
  void add_matrix(const TensorSpec& spec, const MatrixCoding& coding);
  /// Embedding and vectors, when all matrices are there.
  void finish();

  /// So far; complete after finish(), but for the checksums, which are 0.
  Manifest& manifest() { return manifest_; }

 private:
  void add_tile(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                const MatrixCoding& coding);
  void add_embedding();
  void add_vector(const TensorSpec& spec);

  const ModelConfig& model_;
  Manifest manifest_;
  uint64_t manifest_bytes_ = 0;
  uint64_t end_;
};

/// The whole layout at once; `coding` tells how each matrix is stored.
Manifest lay_out_manifest(const ModelConfig& model, uint64_t tile_bytes,
                          const std::function<MatrixCoding(const TensorSpec&)>& coding);
/// The same with raw tiles.
Manifest lay_out_manifest(const ModelConfig& model, uint64_t tile_bytes);

}  // namespace headrace
