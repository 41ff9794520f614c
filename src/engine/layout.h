#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/model_config.h"
#include "engine/manifest.h"

namespace headrace {

/// Which tensors an engine of a model holds, in which order: the one list that the builder writes
/// and the reader checks. Indexed, never materialised, so that a forged number of layers costs
/// nothing.

/// A tensor of an engine: a matrix [rows, k], or a vector of `rows` values (k is 0).
struct TensorSpec {
  int32_t layer = -1;
  Role role = Role::kQkv;
  int64_t rows = 0;
  int64_t k = 0;
};

/// Number of matrices in pass order: qkv, dense, fc, gate, proj of every layer, then lm_head.
int64_t matrix_count(const ModelConfig& config);
/// REQUIRES: 0 <= index < matrix_count(config).
TensorSpec matrix_spec(const ModelConfig& config, int64_t index);

/// Number of norms and biases: by layer, in a layer by role number, the final norm last.
int64_t vector_count(const ModelConfig& config);
/// REQUIRES: 0 <= index < vector_count(config).
TensorSpec vector_spec(const ModelConfig& config, int64_t index);

/// Name of the tensor in a checkpoint, "transformer.layers.0.attention.qkv.weight".
std::string checkpoint_name(int32_t layer, Role role);

}  // namespace headrace
