#include "engine/manifest.h"

#include <algorithm>
#include <utility>

namespace headrace {
namespace {

std::pair<uint32_t, uint16_t> vector_key(int32_t layer, Role role) {
  return {static_cast<uint32_t>(layer), static_cast<uint16_t>(role)};  // layer -1 sorts last
}

}  // namespace

const char* role_name(Role role) {
  switch (role) {
    case Role::kQkv:
      return "qkv";
    case Role::kDense:
      return "dense";
    case Role::kFc:
      return "fc";
    case Role::kGate:
      return "gate";
    case Role::kProj:
      return "proj";
    case Role::kLmHead:
      return "lm_head";
    case Role::kEmbedding:
      return "embedding";
    case Role::kInputNorm:
      return "input_norm";
    case Role::kPostNorm:
      return "post_norm";
    case Role::kFinalNorm:
      return "final_norm";
    case Role::kQkvBias:
      return "qkv_bias";
    case Role::kDenseBias:
      return "dense_bias";
    case Role::kFcBias:
      return "fc_bias";
    case Role::kGateBias:
      return "gate_bias";
    case Role::kProjBias:
      return "proj_bias";
  }
  return "unknown";
}

std::vector<MatrixGroup> Manifest::groups() const {
  std::vector<MatrixGroup> groups;
  for (uint32_t m = 0; m < matrices.size(); ++m) {
    const bool joins = m > 0 && matrices[m].role == Role::kGate &&
                       matrices[m - 1].role == Role::kFc &&
                       matrices[m].layer == matrices[m - 1].layer;
    if (joins) {
      ++groups.back().matrix_count;
    } else {
      groups.push_back({.layer = matrices[m].layer, .first_matrix = m, .matrix_count = 1});
    }
  }
  return groups;
}

uint64_t Manifest::streamable_bytes() const {
  uint64_t bytes = 0;
  for (const TileInfo& tile : tiles) bytes += tile.raw_bytes;
  return bytes;
}

uint64_t Manifest::payload_bytes() const {
  uint64_t bytes = 0;
  for (const TileInfo& tile : tiles) bytes += tile.payload_bytes();
  return bytes;
}

RowLayout Manifest::row_layout(const TileInfo& tile) const {
  const MatrixInfo& matrix = matrices[tile.matrix];
  return RowLayout::of(tile.codec, matrix.dtype, matrix.k, tile.row_stride_bytes);
}

const VectorInfo* Manifest::find_vector(int32_t layer, Role role) const {
  const auto key = vector_key(layer, role);
  const auto found = std::ranges::lower_bound(
      vectors, key, {}, [](const VectorInfo& v) { return vector_key(v.layer, v.role); });
  if (found == vectors.end() || vector_key(found->layer, found->role) != key) return nullptr;
  return &*found;
}

}  // namespace headrace
