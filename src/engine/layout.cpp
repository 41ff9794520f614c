#include "engine/layout.h"

#include <array>
#include <vector>

#include "base/error.h"

namespace headrace {
namespace {

constexpr std::array kLayerMatrices = {Role::kQkv, Role::kDense, Role::kFc, Role::kGate,
                                       Role::kProj};
constexpr int64_t kMatricesPerLayer = kLayerMatrices.size();

std::vector<Role> layer_vectors(const ModelConfig& config) {
  std::vector<Role> roles = {Role::kInputNorm, Role::kPostNorm};
  if (config.qkv_bias) roles.push_back(Role::kQkvBias);
  if (config.dense_bias) roles.push_back(Role::kDenseBias);
  if (config.mlp_bias) {
    roles.insert(roles.end(), {Role::kFcBias, Role::kGateBias, Role::kProjBias});
  }
  return roles;
}

int64_t output_rows(const ModelConfig& config, Role role) {
  switch (role) {
    case Role::kQkv:
    case Role::kQkvBias:
      return config.qkv_size();
    case Role::kFc:
    case Role::kGate:
    case Role::kFcBias:
    case Role::kGateBias:
      return config.intermediate_size;
    case Role::kLmHead:
    case Role::kEmbedding:
      return config.vocab_size;
    default:
      return config.hidden_size;
  }
}

int64_t input_columns(const ModelConfig& config, Role role) {
  if (role == Role::kDense) return config.q_size();
  if (role == Role::kProj) return config.intermediate_size;
  return config.hidden_size;
}

const char* name_in_layer(Role role) {
  switch (role) {
    case Role::kQkv:
      return "attention.qkv.weight";
    case Role::kDense:
      return "attention.dense.weight";
    case Role::kFc:
      return "mlp.fc.weight";
    case Role::kGate:
      return "mlp.gate.weight";
    case Role::kProj:
      return "mlp.proj.weight";
    case Role::kInputNorm:
      return "input_layernorm.weight";
    case Role::kPostNorm:
      return "post_layernorm.weight";
    case Role::kQkvBias:
      return "attention.qkv.bias";
    case Role::kDenseBias:
      return "attention.dense.bias";
    case Role::kFcBias:
      return "mlp.fc.bias";
    case Role::kGateBias:
      return "mlp.gate.bias";
    case Role::kProjBias:
      return "mlp.proj.bias";
    default:
      break;
  }
  fail(ErrorCode::kInternal, "[engine] {} is not in a layer", role_name(role));
}

}  // namespace

int64_t matrix_count(const ModelConfig& config) {
  return config.num_hidden_layers * kMatricesPerLayer + 1;
}

TensorSpec matrix_spec(const ModelConfig& config, int64_t index) {
  HR_CHECK(index >= 0 && index < matrix_count(config));
  TensorSpec spec;
  if (index == matrix_count(config) - 1) {
    spec.role = Role::kLmHead;
  } else {
    spec.layer = static_cast<int32_t>(index / kMatricesPerLayer);
    spec.role = kLayerMatrices[static_cast<size_t>(index % kMatricesPerLayer)];
  }
  spec.rows = output_rows(config, spec.role);
  spec.k = input_columns(config, spec.role);
  return spec;
}

int64_t vector_count(const ModelConfig& config) {
  return config.num_hidden_layers * static_cast<int64_t>(layer_vectors(config).size()) + 1;
}

TensorSpec vector_spec(const ModelConfig& config, int64_t index) {
  HR_CHECK(index >= 0 && index < vector_count(config));
  const std::vector<Role> roles = layer_vectors(config);
  const auto per_layer = static_cast<int64_t>(roles.size());
  TensorSpec spec;
  if (index == vector_count(config) - 1) {
    spec.role = Role::kFinalNorm;
  } else {
    spec.layer = static_cast<int32_t>(index / per_layer);
    spec.role = roles[static_cast<size_t>(index % per_layer)];
  }
  spec.rows = output_rows(config, spec.role);
  return spec;
}

std::string checkpoint_name(int32_t layer, Role role) {
  if (role == Role::kLmHead) return "lm_head.weight";
  if (role == Role::kEmbedding) return "transformer.vocab_embedding.weight";
  if (role == Role::kFinalNorm) return "transformer.ln_f.weight";
  return fmt::format("transformer.layers.{}.{}", layer, name_in_layer(role));
}

}  // namespace headrace
