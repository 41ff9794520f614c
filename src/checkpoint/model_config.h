#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace headrace {

/// How rotary frequencies are changed for contexts longer than the model was first trained for.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;                     // llama3 only
  double high_freq_factor = 4.0;                    // llama3 only
  int64_t original_max_position_embeddings = 8192;  // llama3 only
};

/// Shape and meaning of a model, as the checkpoint's config.json holds it (INTERFACE.md section 2)
/// and the engine carries it on ("pretrained_config"). Immutable once validated.
struct ModelConfig {
  std::string architecture = "LlamaForCausalLM";  // a key of the architecture registry
  DType dtype = DType::kFloat16;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_size = 0;
  int64_t intermediate_size = 0;
  std::string hidden_act = "silu";
  double norm_epsilon = 1e-5;
  double rotary_base = 10000.0;
  RopeScaling rotary_scaling;
  bool qkv_bias = false;             // attention.qkv.bias is present
  bool dense_bias = false;           // attention.dense.bias is present
  bool mlp_bias = false;             // mlp.fc.bias, mlp.gate.bias and mlp.proj.bias are present
  bool tie_word_embeddings = false;  // lm_head.weight is vocab_embedding.weight

  int64_t q_size() const { return num_attention_heads * head_size; }
  int64_t kv_size() const { return num_key_value_heads * head_size; }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

/// Reads config.json's text. `where` names the file in errors. Unknown keys are ignored; missing,
/// mistyped, contradictory or absurd values are Error{kCorrupt} or {kUnsupported} naming the key.
ModelConfig parse_model_config(std::string_view json_text, std::string_view where);

/// The text of config.json, with mapping and quantization sections as INTERFACE.md lists them.
std::string model_config_to_json(const ModelConfig& config);

/// Throws Error{kCorrupt} naming `where` and the first value that no model can have: sizes below 1
/// or over 2^31, heads not a multiple of kv heads, an odd head size, ...
void validate_model_config(const ModelConfig& config, std::string_view where);

}  // namespace headrace
