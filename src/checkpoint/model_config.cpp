#include "checkpoint/model_config.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace headrace {
namespace {

using nlohmann::json;

constexpr int64_t kLargestSize = int64_t{1} << 31;

/// Reads typed values of one JSON object; errors name the file and the key.
class Fields {
 public:
  Fields(const json& object, std::string_view where) : object_(object), where_(where) {}

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  int64_t integer(const char* key) const {
    const json& value = require(key);
    if (!value.is_number_integer()) wrong(key, "an integer");
    if (value.is_number_unsigned() &&
        value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      wrong(key, "a smaller integer");
    }
    return value.get<int64_t>();
  }
  int64_t integer(const char* key, int64_t otherwise) const {
    return has(key) ? integer(key) : otherwise;
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_number()) wrong(key, "a number");
    return object_[key].get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!object_[key].is_boolean()) wrong(key, "true or false");
    return object_[key].get<bool>();
  }
  std::string text(const char* key) const {
    const json& value = require(key);
    if (!value.is_string()) wrong(key, "a string");
    return value.get<std::string>();
  }
  std::string text(const char* key, const char* otherwise) const {
    return has(key) ? text(key) : otherwise;
  }
  const json& object(const char* key) const {
    const json& value = require(key);
    if (!value.is_object()) wrong(key, "an object");
    return value;
  }

 private:
  const json& require(const char* key) const {
    if (!has(key)) fail(ErrorCode::kCorrupt, "[config] {} has no '{}'", where_, key);
    return object_[key];
  }
  [[noreturn]] void wrong(const char* key, const char* expected) const {
    fail(ErrorCode::kCorrupt, "[config] {}: '{}' should be {}", where_, key, expected);
  }

  const json& object_;
  const std::string_view where_;
};

RopeScaling parse_scaling(const Fields& fields, std::string_view where) {
  RopeScaling scaling;
  if (!fields.has("rotary_scaling")) return scaling;
  const Fields values(fields.object("rotary_scaling"), where);
  const std::string type = values.text("type");
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
  } else {
    fail(ErrorCode::kUnsupported,
         "[config] {}: rotary_scaling type '{}' is not known: linear and "
         "llama3 are",
         where, type);
  }
  scaling.factor = values.number("factor", scaling.factor);
  scaling.low_freq_factor = values.number("low_freq_factor", scaling.low_freq_factor);
  scaling.high_freq_factor = values.number("high_freq_factor", scaling.high_freq_factor);
  scaling.original_max_position_embeddings =
      values.integer("original_max_position_embeddings", scaling.original_max_position_embeddings);
  return scaling;
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

void check_size(int64_t value, const char* key, std::string_view where) {
  if (value < 1 || value > kLargestSize) {
    fail(ErrorCode::kCorrupt, "[config] {}: '{}' is {}; it should be 1 to {}", where, key, value,
         kLargestSize);
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
  const json root = json::parse(json_text, nullptr, false);
  if (!root.is_object()) fail(ErrorCode::kCorrupt, "[config] {} is not a JSON object", where);
  const Fields fields(root, where);
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
  config.rotary_scaling = parse_scaling(fields, where);
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
  check_size(config.num_hidden_layers, "num_hidden_layers", where);
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
         config.hidden_act);
  }
}

}  // namespace headrace
