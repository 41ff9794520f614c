#include "checkpoint/model_config.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr int64_t kLargestSize = int64_t{1} << 31;
constexpr int64_t kMostLayers = 10000;
constexpr int64_t kLargestMatrix = int64_t{1} << 48;  // elements

RopeScaling parse_scaling(const JsonFields& fields) {
  RopeScaling scaling;
  if (!fields.has("rotary_scaling")) return scaling;
  const JsonFields values = fields.object("rotary_scaling");
  const char* key = values.has("type") ? "type" : "rope_type";
  const std::string type = values.text(key);
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
  } else {
    values.reject(key, "linear and llama3 are known");
  }
  scaling.factor = values.number("factor", scaling.factor);
  scaling.low_freq_factor = values.number("low_freq_factor", scaling.low_freq_factor);
  scaling.high_freq_factor = values.number("high_freq_factor", scaling.high_freq_factor);
  scaling.original_max_position_embeddings =
      values.integer("original_max_position_embeddings", scaling.original_max_position_embeddings);
  return scaling;
}

/// Refuses what a checkpoint of another program may say and this one would ignore.
void check_unsupported(const JsonFields& fields) {
  if (fields.text("position_embedding_type", "rope_gpt_neox") != "rope_gpt_neox") {
    fields.reject("position_embedding_type", "rope_gpt_neox is known");
  }
  if (fields.has("mapping")) {
    const JsonFields mapping = fields.object("mapping");
    for (const char* key : {"world_size", "tp_size", "pp_size"}) {
      if (mapping.integer(key, 1) != 1) mapping.reject(key, "1 is supported");
    }
  }
  if (fields.has("quantization")) {
    const JsonFields quantization = fields.object("quantization");
    for (const char* key : {"quant_algo", "kv_cache_quant_algo"}) {
      if (quantization.has(key)) quantization.reject(key, "null is supported");
    }
  }
}

json scaling_json(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone:
      return nullptr;
    case RopeScaling::Kind::kLinear:
      return {{"type", "linear"}, {"factor", scaling.factor}};
    case RopeScaling::Kind::kLlama3:
      return {{"type", "llama3"},
              {"factor", scaling.factor},
              {"low_freq_factor", scaling.low_freq_factor},
              {"high_freq_factor", scaling.high_freq_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  }
  HR_CHECK(false);
}

void check_size(int64_t value, const char* key, std::string_view where,
                int64_t largest = kLargestSize) {
  if (value < 1 || value > largest) {
    fail(ErrorCode::kCorrupt, "[config] {}: '{}' is {}; it should be 1 to {}", where, key, value,
         largest);
  }
}

void check_positive(double value, const char* key, std::string_view where) {
  if (!(value > 0) || !std::isfinite(value)) {
    fail(ErrorCode::kCorrupt, "[config] {}: '{}' is {}; it should be a number above 0", where, key,
         value);
  }
}

void check_scaling(const RopeScaling& scaling, std::string_view where) {
  if (scaling.kind == RopeScaling::Kind::kNone) return;
  check_positive(scaling.factor, "rotary_scaling.factor", where);
  if (scaling.kind == RopeScaling::Kind::kLinear) return;
  check_positive(scaling.low_freq_factor, "rotary_scaling.low_freq_factor", where);
  check_positive(scaling.high_freq_factor, "rotary_scaling.high_freq_factor", where);
  check_size(scaling.original_max_position_embeddings,
             "rotary_scaling.original_max_position_embeddings", where);
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    fail(ErrorCode::kCorrupt,
         "[config] {}: rotary_scaling.high_freq_factor {} should be above low_freq_factor {}",
         where, scaling.high_freq_factor, scaling.low_freq_factor);
  }
}

}  // namespace

ModelConfig parse_model_config(std::string_view json_text, std::string_view where) {
  const json root = parse_json_object(json_text, where);
  const JsonFields fields(root, std::string(where));
  check_unsupported(fields);
  ModelConfig config;
  config.architecture = fields.text("architecture");
  config.dtype = parse_dtype(fields.text("dtype"), fmt::format("{}: dtype", where));
  config.vocab_size = fields.integer("vocab_size");
  config.max_position_embeddings = fields.integer("max_position_embeddings");
  config.hidden_size = fields.integer("hidden_size");
  config.num_hidden_layers = fields.integer("num_hidden_layers");
  config.num_attention_heads = fields.integer("num_attention_heads");
  config.num_key_value_heads = fields.integer("num_key_value_heads", config.num_attention_heads);
  check_size(config.num_attention_heads, "num_attention_heads", where);
  config.head_size = fields.integer("head_size", config.hidden_size / config.num_attention_heads);
  config.intermediate_size = fields.integer("intermediate_size");
  config.hidden_act = fields.text("hidden_act", "silu");
  config.norm_epsilon = fields.number("norm_epsilon", config.norm_epsilon);
  config.rotary_base = fields.number("rotary_base", config.rotary_base);
  config.rotary_scaling = parse_scaling(fields);
  config.qkv_bias = fields.boolean("qkv_bias", false);
  config.dense_bias = fields.boolean("dense_bias", false);
  config.mlp_bias = fields.boolean("mlp_bias", false);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  validate_model_config(config, where);
  return config;
}

std::string model_config_to_json(const ModelConfig& config) {
  const json root = {
      {"architecture", config.architecture},
      {"dtype", dtype_name(config.dtype)},
      {"logits_dtype", "float32"},
      {"vocab_size", config.vocab_size},
      {"max_position_embeddings", config.max_position_embeddings},
      {"hidden_size", config.hidden_size},
      {"num_hidden_layers", config.num_hidden_layers},
      {"num_attention_heads", config.num_attention_heads},
      {"num_key_value_heads", config.num_key_value_heads},
      {"head_size", config.head_size},
      {"hidden_act", config.hidden_act},
      {"intermediate_size", config.intermediate_size},
      {"norm_epsilon", config.norm_epsilon},
      {"position_embedding_type", "rope_gpt_neox"},
      {"rotary_base", config.rotary_base},
      {"rotary_scaling", scaling_json(config.rotary_scaling)},
      {"qkv_bias", config.qkv_bias},
      {"dense_bias", config.dense_bias},
      {"mlp_bias", config.mlp_bias},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"mapping", {{"world_size", 1}, {"tp_size", 1}, {"pp_size", 1}}},
      {"quantization", {{"quant_algo", nullptr}, {"kv_cache_quant_algo", nullptr}}},
  };
  return root.dump(2) + "\n";
}

void validate_model_config(const ModelConfig& config, std::string_view where) {
  check_size(config.vocab_size, "vocab_size", where);
  check_size(config.max_position_embeddings, "max_position_embeddings", where);
  check_size(config.hidden_size, "hidden_size", where);
  check_size(config.num_hidden_layers, "num_hidden_layers", where, kMostLayers);
  check_size(config.num_attention_heads, "num_attention_heads", where);
  check_size(config.num_key_value_heads, "num_key_value_heads", where);
  check_size(config.head_size, "head_size", where);
  check_size(config.intermediate_size, "intermediate_size", where);
  check_positive(config.norm_epsilon, "norm_epsilon", where);
  check_positive(config.rotary_base, "rotary_base", where);
  check_scaling(config.rotary_scaling, where);
  if (config.num_attention_heads > kLargestSize / config.head_size ||
      config.num_key_value_heads > kLargestSize / config.head_size) {
    fail(ErrorCode::kCorrupt, "[config] {}: {} heads of {} are more than any model has", where,
         config.num_attention_heads, config.head_size);
  }
  const int64_t most_rows =
      std::max({config.vocab_size, config.qkv_size(), config.intermediate_size});
  const int64_t widest = std::max({config.hidden_size, config.q_size(), config.intermediate_size});
  if (most_rows > kLargestMatrix / widest) {
    fail(ErrorCode::kCorrupt, "[config] {}: a matrix of {} x {} is larger than any model's", where,
         most_rows, widest);
  }
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail(ErrorCode::kCorrupt,
         "[config] {}: num_attention_heads {} is not a multiple of num_key_value_heads {}", where,
         config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_size % 2 != 0) {
    fail(ErrorCode::kUnsupported, "[config] {}: head_size {} is odd: rotary positions need pairs",
         where, config.head_size);
  }
  if (config.hidden_act != "silu") {
    fail(ErrorCode::kUnsupported, "[config] {}: hidden_act '{}' is not supported: silu is", where,
         printable(config.hidden_act));
  }
}

}  // namespace headrace
