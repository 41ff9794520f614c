#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_config.h"

namespace headrace {

/// What values a tensor of a model holds.
enum class TensorKind : uint8_t { kMatrix, kNorm, kBias };

/// A tensor of a checkpoint.
struct CheckpointTensor {
  int64_t layer = -1;     // -1: of no layer
  std::string_view name;  // in its layer: "attention.qkv.weight"
  TensorKind kind = TensorKind::kMatrix;
  std::vector<int64_t> shape;  // [out_features, in_features], or [count]

  /// "transformer.layers.3.attention.qkv.weight"
  std::string full_name() const;
  uint64_t elements() const;
};

/// The tensors of a checkpoint of this model, in the order in which they are written: embedding,
/// layer by layer, final norm, lm_head (unless tied). REQUIRES: a valid config.
std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config);

}  // namespace headrace
