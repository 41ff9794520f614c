#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "codec/codec_id.h"
#include "codec/row_layout.h"
#include "tensor/dtype.h"

namespace headrace {

/// What a tensor does in its layer. The numbers are stored in engine files: never renumber.
enum class Role : uint16_t {
  kQkv = 0,        ///< rows Q, K, V; x is the normed input
  kDense = 1,      ///< attention output
  kFc = 2,         ///< Hugging Face gate_proj (goes through the activation)
  kGate = 3,       ///< Hugging Face up_proj
  kProj = 4,       ///< Hugging Face down_proj
  kLmHead = 5,     ///< logits
  kEmbedding = 6,  ///< token embedding table; absent when tied to lm_head
  kInputNorm = 16,
  kPostNorm = 17,
  kFinalNorm = 18,
  kQkvBias = 19,
  kDenseBias = 20,
  kFcBias = 21,
  kGateBias = 22,
  kProjBias = 23,
};

/// "qkv", "lm_head", "input_norm", ...
const char* role_name(Role role);

/// One weight matrix, row-major [rows, k]; out = W x. Matrices stand in pass order: layer by layer,
/// and qkv, dense, fc, gate, proj within a layer, lm_head last. The embedding table is not among
/// them.
struct MatrixInfo {
  int32_t layer = -1;  // -1: not in a layer (lm_head)
  Role role = Role::kQkv;
  int32_t expert = -1;  // -1: not an expert
  int64_t rows = 0;
  int64_t k = 0;
  DType dtype = DType::kFloat16;
  uint32_t first_tile = 0;  // index into Manifest::tiles
  uint32_t tile_count = 0;
};

/// A run of whole rows of one matrix: the unit of residency, streaming, coding and checksums. Tiles
/// stand in pass order and their offsets grow.
struct TileInfo {
  uint32_t matrix = 0;  // index into Manifest::matrices
  int64_t row_begin = 0;
  int64_t rows = 0;
  CodecId codec = CodecId::kRaw;
  uint8_t codec_version = 0;
  uint32_t row_stride_bytes = 0;  // a multiple of 16; coded: of 64 (codec/row_layout.h)
  uint64_t raw_bytes = 0;         // rows x k x dtype size: what counts as streamable
  uint64_t stored_bytes = 0;      // bytes in the file, row padding included, end padding not
  uint64_t offset = 0;            // in the engine file; a multiple of 4096
  uint64_t xxh3 = 0;              // XXH3-64 of the stored bytes
  uint32_t parameters_begin = 0;  // opaque to all but the codec: a range of
  uint32_t parameters_size = 0;   // Manifest::codec_parameters; empty for the codecs there are

  /// Bytes that a pass has to move for the tile, and that it costs where it is resident: of coded
  /// tiles the code, of raw ones the elements without what pads their rows.
  uint64_t payload_bytes() const { return codec == CodecId::kRaw ? raw_bytes : stored_bytes; }
};

/// Version of the codecs that this program writes and reads: 0 for raw, 1 for the others.
constexpr uint8_t codec_version_of(CodecId codec) { return codec == CodecId::kRaw ? 0 : 1; }

/// A norm weight or bias: always in fast memory, stored as float32.
struct VectorInfo {
  int32_t layer = -1;
  Role role = Role::kInputNorm;
  int64_t count = 0;
  uint64_t offset = 0;  // in the engine file; `count` float32 values
  uint64_t xxh3 = 0;
};

/// The untied token embedding table [vocab, hidden]: read from the file row by row. Row t starts at
/// offset + t * row_stride_bytes; the last 8 bytes of its stride hold the XXH3-64 of its payload.
struct EmbeddingInfo {
  bool tied = false;  // the rows of lm_head serve; the fields below are zero
  uint64_t offset = 0;
  uint32_t row_stride_bytes = 0;
};

/// The matrices that multiply the same x: qkv | dense | fc + gate | proj | lm_head. Group g uses
/// matrices [first_matrix, first_matrix + matrix_count) of the manifest.
struct MatrixGroup {
  int32_t layer = -1;
  uint32_t first_matrix = 0;
  uint32_t matrix_count = 0;
};

/// Everything about an engine's weights but the weights. Immutable once read.
struct Manifest {
  std::vector<MatrixInfo> matrices;
  std::vector<TileInfo> tiles;
  std::vector<VectorInfo> vectors;  // by layer and role; those of no layer last
  std::vector<std::byte> codec_parameters;
  EmbeddingInfo embedding;
  uint64_t tile_bytes = 0;  // the build's --tile_bytes
  uint64_t file_bytes = 0;  // size that the engine file must have

  /// Groups in pass order; four a layer, then lm_head.
  std::vector<MatrixGroup> groups() const;
  /// Raw payload of every matrix: the denominator of gpu_weights_percent.
  uint64_t streamable_bytes() const;
  /// The same as they are coded.
  uint64_t payload_bytes() const;
  /// How the tile's rows are laid out. REQUIRES: they are coded.
  RowLayout row_layout(const TileInfo& tile) const;
  /// The vector with this role, or null if the model has none (a bias, say).
  const VectorInfo* find_vector(int32_t layer, Role role) const;
};

}  // namespace headrace
