// Llama 1, 2 and 3, and models of the same shape (SmolLM2, ...).

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/architecture.h"
#include "checkpoint/gguf.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

using nlohmann::json;

// --- Hugging Face ---

RopeScaling read_scaling(const JsonFields& rope) {
  RopeScaling scaling;
  const std::string type =
      rope.has("rope_type") ? rope.text("rope_type") : rope.text("type", "default");
  if (type == "default") return scaling;
  if (type != "linear" && type != "llama3") {
    rope.reject(rope.has("rope_type") ? "rope_type" : "type", "default, linear and llama3 work");
  }
  scaling.factor = rope.number("factor");
  scaling.kind = RopeScaling::Kind::kLinear;
  if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.low_freq_factor = rope.number("low_freq_factor");
    scaling.high_freq_factor = rope.number("high_freq_factor");
    scaling.original_max_position_embeddings = rope.integer("original_max_position_embeddings");
  }
  return scaling;
}

/// rope_theta and rope_scaling, or transformers 5's rope_parameters, which holds both.
void read_rope(const JsonFields& fields, ModelConfig& config) {
  config.rotary_base = fields.number("rope_theta", 10000.0);
  if (fields.has("rope_parameters")) {
    const JsonFields rope = fields.object("rope_parameters");
    config.rotary_base = rope.number("rope_theta", config.rotary_base);
    config.rotary_scaling = read_scaling(rope);
    if (rope.number("partial_rotary_factor", 1.0) != 1.0) {
      rope.reject("partial_rotary_factor", "1.0 works");
    }
  } else if (fields.has("rope_scaling")) {
    config.rotary_scaling = read_scaling(fields.object("rope_scaling"));
  }
  if (fields.number("partial_rotary_factor", 1.0) != 1.0) {
    fields.reject("partial_rotary_factor", "1.0 works");
  }
}

ModelConfig read_hugging_face(const JsonFields& fields) {
  if (fields.has("quantization_config")) {
    fields.reject("quantization_config", "a model that is not quantised works, or a GGUF file");
  }
  ModelConfig config;
  config.architecture = kLlamaArchitecture.name;
  config.vocab_size = fields.integer("vocab_size");
  config.max_position_embeddings = fields.integer("max_position_embeddings", 2048);
  config.hidden_size = fields.integer("hidden_size");
  config.intermediate_size = fields.integer("intermediate_size");
  config.num_hidden_layers = fields.integer("num_hidden_layers");
  config.num_attention_heads = fields.integer("num_attention_heads");
  config.num_key_value_heads = fields.integer("num_key_value_heads", config.num_attention_heads);
  if (fields.has("head_dim")) {
    config.head_size = fields.integer("head_dim");
  } else {
    if (config.num_attention_heads < 1 || config.hidden_size % config.num_attention_heads != 0) {
      fields.reject("num_attention_heads", "a divisor of hidden_size works, or give head_dim");
    }
    config.head_size = config.hidden_size / config.num_attention_heads;
  }
  config.hidden_act = fields.text("hidden_act", "silu");
  if (config.hidden_act != "silu") fields.reject("hidden_act", "silu works");
  config.norm_epsilon = fields.number("rms_norm_eps", 1e-6);
  read_rope(fields, config);
  config.qkv_bias = config.dense_bias = fields.boolean("attention_bias", false);
  config.mlp_bias = fields.boolean("mlp_bias", false);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings", false);
  return config;
}

// --- GGUF ---

double wavelength(const ModelConfig& config, int64_t pair) {
  const double exponent = 2.0 * static_cast<double>(pair) / static_cast<double>(config.head_size);
  return 2.0 * std::numbers::pi * std::pow(config.rotary_base, exponent);
}

/// The factors by which llama3 scaling divides the frequencies (transformers'
/// modeling_rope_utils, _compute_llama3_parameters; Meta's Llama 3.1 reference code).
double llama3_divisor(double wavelength, const RopeScaling& scaling) {
  const double length = static_cast<double>(scaling.original_max_position_embeddings);
  if (wavelength < length / scaling.high_freq_factor) return 1.0;
  if (wavelength > length / scaling.low_freq_factor) return scaling.factor;
  const double smooth = (length / wavelength - scaling.low_freq_factor) /
                        (scaling.high_freq_factor - scaling.low_freq_factor);
  return 1.0 / ((1.0 - smooth) / scaling.factor + smooth);
}

std::vector<float> read_divisors(const GgufFile& file, const GgufTensor& tensor, int64_t pairs) {
  if (tensor.type != QuantType::kF32 || tensor.shape != std::vector<int64_t>{pairs}) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: rope_freqs.weight should hold {} values of F32",
         file.path(), pairs);
  }
  std::vector<float> divisors(static_cast<size_t>(pairs));
  file.read(tensor, 0, std::as_writable_bytes(std::span(divisors)));
  for (const float divisor : divisors) {
    if (!(divisor >= 1.0f && std::isfinite(divisor))) {
      fail(ErrorCode::kUnsupported, "[gguf] {}: rope_freqs.weight holds {}: 1 or more works",
           file.path(), divisor);
    }
  }
  return divisors;
}

/// Original lengths that the divisors may come from: that of every published Llama 3, and what each
/// divisor says by itself. One between the bounds tells it exactly; the first that is all of the
/// factor bounds it.
std::vector<int64_t> possible_lengths(std::span<const float> divisors, const ModelConfig& config,
                                      const RopeScaling& scaling) {
  std::vector<int64_t> lengths = {8192};
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double wave = wavelength(config, static_cast<int64_t>(i));
    const double divisor = divisors[i];
    if (divisor == 1.0) continue;
    const double smooth = (1.0 / divisor - 1.0 / scaling.factor) / (1.0 - 1.0 / scaling.factor);
    const double length = wave * (scaling.low_freq_factor +
                                  smooth * (scaling.high_freq_factor - scaling.low_freq_factor));
    if (length >= 1e9) break;
    lengths.push_back(smooth > 0.0 ? std::llround(length) : static_cast<int64_t>(length));
    if (smooth <= 0.0) break;
  }
  return lengths;
}

/// GGUF keeps llama3 scaling as one divisor per frequency. Parameters that give these divisors are
/// as good as those that made them: the factor is the largest divisor, the original length is
/// sought, the rest is what every Llama 3 has.
RopeScaling recover_llama3(const GgufFile& file, const GgufTensor& tensor,
                           const ModelConfig& config) {
  const std::vector<float> divisors = read_divisors(file, tensor, config.head_size / 2);
  RopeScaling scaling;
  scaling.factor = *std::ranges::max_element(divisors);
  if (scaling.factor == 1.0) return scaling;
  scaling.kind = RopeScaling::Kind::kLlama3;
  scaling.low_freq_factor = 1.0;
  scaling.high_freq_factor = 4.0;
  const auto fits = [&](int64_t length) {
    scaling.original_max_position_embeddings = length;
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double expected = llama3_divisor(wavelength(config, static_cast<int64_t>(i)), scaling);
      if (std::abs(divisors[i] - expected) > 1e-4 * expected) return false;
    }
    return true;
  };
  if (std::ranges::none_of(possible_lengths(divisors, config, scaling), fits)) {
    fail(ErrorCode::kUnsupported,
         "[gguf] {}: rope_freqs.weight is not llama3 scaling with the frequency factors 1 and 4: "
         "convert the Hugging Face folder instead",
         file.path());
  }
  return scaling;
}

RopeScaling read_gguf_scaling(const GgufFile& file, const ModelConfig& config) {
  RopeScaling scaling;
  const std::string* type = file.find_text("llama.rope.scaling.type");
  if (type != nullptr && *type != "none" && *type != "linear") {
    fail(ErrorCode::kUnsupported,
         "[gguf] {}: llama.rope.scaling.type is '{}': none and linear work", file.path(),
         printable(*type));
  }
  if (type != nullptr && *type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
    scaling.factor = file.number("llama.rope.scaling.factor", 1.0);
  } else if (type == nullptr && file.number("llama.rope.scale_linear", 1.0) != 1.0) {
    scaling.kind = RopeScaling::Kind::kLinear;
    scaling.factor = file.number("llama.rope.scale_linear", 1.0);
  }
  const GgufTensor* divisors = file.find("rope_freqs.weight");
  if (divisors == nullptr) return scaling;
  const RopeScaling llama3 = recover_llama3(file, *divisors, config);
  if (llama3.kind == RopeScaling::Kind::kNone) return scaling;
  if (scaling.kind != RopeScaling::Kind::kNone) {
    fail(ErrorCode::kUnsupported,
         "[gguf] {}: llama.rope.scaling.type linear beside rope_freqs.weight: one of them works",
         file.path());
  }
  return llama3;
}

int64_t vocabulary_size(const GgufFile& file) {
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    fail(ErrorCode::kNotFound, "[gguf] {}: there is no matrix token_embd.weight", file.path());
  }
  return embedding->rows();
}

/// A value that must be what the rest of the program takes for granted.
void expect_integer(const GgufFile& file, const char* key, int64_t works) {
  const int64_t value = file.integer(key, works);
  if (value != works) {
    fail(ErrorCode::kUnsupported, "[gguf] {}: {} is {}: {} works", file.path(), key, value, works);
  }
}

ModelConfig read_gguf(const GgufFile& file) {
  ModelConfig config;
  config.architecture = kLlamaArchitecture.name;
  config.vocab_size = vocabulary_size(file);
  config.max_position_embeddings = file.integer("llama.context_length");
  config.hidden_size = file.integer("llama.embedding_length");
  config.intermediate_size = file.integer("llama.feed_forward_length");
  config.num_hidden_layers = file.integer("llama.block_count");
  config.num_attention_heads = file.integer("llama.attention.head_count");
  config.num_key_value_heads =
      file.integer("llama.attention.head_count_kv", config.num_attention_heads);
  if (config.num_attention_heads < 1) {
    fail(ErrorCode::kCorrupt, "[gguf] {}: llama.attention.head_count is {}", file.path(),
         config.num_attention_heads);
  }
  config.head_size =
      file.integer("llama.attention.key_length", config.hidden_size / config.num_attention_heads);
  config.norm_epsilon = file.number("llama.attention.layer_norm_rms_epsilon", 1e-5);
  config.rotary_base = file.number("llama.rope.freq_base", 10000.0);
  expect_integer(file, "llama.attention.value_length", config.head_size);
  expect_integer(file, "llama.rope.dimension_count", config.head_size);
  expect_integer(file, "llama.expert_count", 0);
  config.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  config.dense_bias = file.find("blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = file.find("blk.0.ffn_gate.bias") != nullptr;
  config.tie_word_embeddings = file.find("output.weight") == nullptr;
  validate_model_config(config, file.path());
  config.rotary_scaling = read_gguf_scaling(file, config);
  return config;
}

// --- Tensors ---

/// Names of one of a layer's tensors, without ".weight" or ".bias": here, there and in GGUF.
struct LayerNames {
  std::string_view ours;
  std::string_view hugging_face;
  std::string_view gguf;
};

constexpr std::array kLayerNames = {
    LayerNames{"input_layernorm", "input_layernorm", "attn_norm"},
    LayerNames{"attention.dense", "self_attn.o_proj", "attn_output"},
    LayerNames{"post_layernorm", "post_attention_layernorm", "ffn_norm"},
    LayerNames{"mlp.fc", "mlp.gate_proj", "ffn_gate"},
    LayerNames{"mlp.gate", "mlp.up_proj", "ffn_up"},
    LayerNames{"mlp.proj", "mlp.down_proj", "ffn_down"},
};

std::vector<SourcePart> layer_parts(const ModelConfig& config, const CheckpointTensor& tensor) {
  const size_t dot = tensor.name.rfind('.');
  const std::string_view name = tensor.name.substr(0, dot);
  const std::string_view kind = tensor.name.substr(dot);  // ".weight" or ".bias"
  const auto part = [&](std::string_view hugging_face, std::string_view gguf) {
    return SourcePart{
        .hugging_face_name = fmt::format("model.layers.{}.{}{}", tensor.layer, hugging_face, kind),
        .gguf_name = fmt::format("blk.{}.{}{}", tensor.layer, gguf, kind),
        .shape = tensor.shape};
  };
  if (name == "attention.qkv") {
    std::vector<SourcePart> parts = {part("self_attn.q_proj", "attn_q"),
                                     part("self_attn.k_proj", "attn_k"),
                                     part("self_attn.v_proj", "attn_v")};
    parts[0].shape[0] = config.q_size();
    parts[0].interleaved_heads = config.num_attention_heads;
    parts[1].shape[0] = parts[2].shape[0] = config.kv_size();
    parts[1].interleaved_heads = config.num_key_value_heads;
    return parts;
  }
  const auto* names =
      std::ranges::find_if(kLayerNames, [&](const LayerNames& n) { return n.ours == name; });
  HR_CHECK(names != kLayerNames.end());
  return {part(names->hugging_face, names->gguf)};
}

std::vector<SourcePart> parts(const ModelConfig& config, const CheckpointTensor& tensor) {
  if (tensor.layer >= 0) return layer_parts(config, tensor);
  SourcePart part;
  part.shape = tensor.shape;
  if (tensor.name == "transformer.vocab_embedding.weight") {
    part.hugging_face_name = "model.embed_tokens.weight";
    part.gguf_name = "token_embd.weight";
  } else if (tensor.name == "transformer.ln_f.weight") {
    part.hugging_face_name = "model.norm.weight";
    part.gguf_name = "output_norm.weight";
  } else {
    HR_CHECK(tensor.name == "lm_head.weight");
    part.hugging_face_name = "lm_head.weight";
    part.gguf_name = "output.weight";
  }
  return {part};
}

/// Old checkpoints carry the rotary frequencies, which follow from the configuration; with tied
/// embeddings the head may be stored although nobody reads it.
bool may_ignore(std::string_view source_name) {
  return source_name.ends_with(".rotary_emb.inv_freq") || source_name == "lm_head.weight" ||
         source_name == "rope_freqs.weight";
}

}  // namespace

const Architecture kLlamaArchitecture = {
    .name = "LlamaForCausalLM",
    .model_type = "llama",
    .gguf_name = "llama",
    .read_hugging_face = read_hugging_face,
    .read_gguf = read_gguf,
    .parts = parts,
    .may_ignore = may_ignore,
};

}  // namespace headrace
