#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace headrace::testing {

/// config.json of a Llama of one layer: hidden size 4, two heads of 4 (one of keys and values),
/// intermediate size 3, 5 tokens.
inline nlohmann::json small_llama_config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 5},
          {"hidden_size", 4},
          {"intermediate_size", 3},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 4},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 5000.0},
          {"torch_dtype", "float32"}};
}

/// A tensor whose values are `first`, `first` + 1, ...
inline NamedTensor counting_tensor(const std::string& name, std::vector<int64_t> shape, float first,
                                   DType dtype = DType::kFloat32) {
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return {
      .name = name, .dtype = dtype, .shape = std::move(shape), .bytes = to_bytes(values, dtype)};
}

/// The tensors that belong to small_llama_config(): the n-th counts from 100 n.
inline std::vector<NamedTensor> small_llama_tensors() {
  const std::string layer = "model.layers.0.";
  return {
      counting_tensor("model.embed_tokens.weight", {5, 4}, 0),
      counting_tensor(layer + "input_layernorm.weight", {4}, 100),
      counting_tensor(layer + "self_attn.q_proj.weight", {8, 4}, 200),
      counting_tensor(layer + "self_attn.k_proj.weight", {4, 4}, 300),
      counting_tensor(layer + "self_attn.v_proj.weight", {4, 4}, 400),
      counting_tensor(layer + "self_attn.o_proj.weight", {4, 8}, 500),
      counting_tensor(layer + "post_attention_layernorm.weight", {4}, 600),
      counting_tensor(layer + "mlp.gate_proj.weight", {3, 4}, 700),
      counting_tensor(layer + "mlp.up_proj.weight", {3, 4}, 800),
      counting_tensor(layer + "mlp.down_proj.weight", {4, 3}, 900),
      counting_tensor("model.norm.weight", {4}, 1000),
      counting_tensor("lm_head.weight", {5, 4}, 1100),
  };
}

/// A Hugging Face folder in a temporary place.
struct HuggingFaceFolder {
  nlohmann::json config = small_llama_config();
  std::vector<NamedTensor> tensors = small_llama_tensors();
  TemporaryDirectory directory;

  /// Writes config.json and model.safetensors; returns the folder's path.
  std::string write() const {
    write_config();
    write_safetensors(directory / "model.safetensors", tensors);
    return directory.path();
  }
  void write_config() const {
    write_text_file(posix_file_system(), directory / "config.json", config.dump());
  }
  NamedTensor& tensor(const std::string& name) {
    for (NamedTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    throw std::out_of_range(name);
  }
  void erase(const std::string& name) {
    std::erase_if(tensors, [&](const NamedTensor& tensor) { return tensor.name == name; });
  }
};

}  // namespace headrace::testing
