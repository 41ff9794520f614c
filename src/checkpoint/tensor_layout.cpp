#include "checkpoint/tensor_layout.h"

#include "base/error.h"

namespace headrace {

std::string CheckpointTensor::full_name() const {
  return layer < 0 ? std::string(name) : fmt::format("transformer.layers.{}.{}", layer, name);
}

uint64_t CheckpointTensor::elements() const {
  uint64_t count = 1;
  for (const int64_t dimension : shape) count *= static_cast<uint64_t>(dimension);
  return count;
}

std::vector<CheckpointTensor> checkpoint_tensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  std::vector<CheckpointTensor> tensors;
  const auto add = [&](int64_t layer, std::string_view name, TensorKind kind,
                       std::vector<int64_t> shape) {
    tensors.push_back({layer, name, kind, std::move(shape)});
  };
  add(-1, "transformer.vocab_embedding.weight", TensorKind::kMatrix, {config.vocab_size, hidden});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    add(i, "input_layernorm.weight", TensorKind::kNorm, {hidden});
    add(i, "attention.qkv.weight", TensorKind::kMatrix, {config.qkv_size(), hidden});
    if (config.qkv_bias) add(i, "attention.qkv.bias", TensorKind::kBias, {config.qkv_size()});
    add(i, "attention.dense.weight", TensorKind::kMatrix, {hidden, config.q_size()});
    if (config.dense_bias) add(i, "attention.dense.bias", TensorKind::kBias, {hidden});
    add(i, "post_layernorm.weight", TensorKind::kNorm, {hidden});
    add(i, "mlp.fc.weight", TensorKind::kMatrix, {inner, hidden});
    add(i, "mlp.gate.weight", TensorKind::kMatrix, {inner, hidden});
    add(i, "mlp.proj.weight", TensorKind::kMatrix, {hidden, inner});
    if (config.mlp_bias) {
      add(i, "mlp.fc.bias", TensorKind::kBias, {inner});
      add(i, "mlp.gate.bias", TensorKind::kBias, {inner});
      add(i, "mlp.proj.bias", TensorKind::kBias, {hidden});
    }
  }
  add(-1, "transformer.ln_f.weight", TensorKind::kNorm, {hidden});
  if (!config.tie_word_embeddings) {
    add(-1, "lm_head.weight", TensorKind::kMatrix, {config.vocab_size, hidden});
  }
  return tensors;
}

}  // namespace headrace
