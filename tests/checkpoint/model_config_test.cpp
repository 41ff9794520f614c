#include "checkpoint/model_config.h"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using nlohmann::json;
using testing::expect_error;

/// As TensorRT-LLM's convert_checkpoint.py writes it for Llama 3.1 8B, with its extra keys.
constexpr const char* kUpstream = R"({
  "architecture": "LlamaForCausalLM", "dtype": "float16", "logits_dtype": "float32",
  "vocab_size": 128256, "max_position_embeddings": 131072, "hidden_size": 4096,
  "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_size": 128,
  "qk_layernorm": false, "hidden_act": "silu", "intermediate_size": 14336, "norm_epsilon": 1e-05,
  "position_embedding_type": "rope_gpt_neox", "use_parallel_embedding": false,
  "embedding_sharding_dim": 0, "share_embedding_table": false, "rotary_base": 500000.0,
  "rotary_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "mapping": {"world_size": 1, "gpus_per_node": 8, "tp_size": 1, "pp_size": 1},
  "quantization": {"quant_algo": null, "kv_cache_quant_algo": null, "group_size": 128},
  "kv_dtype": "float16"})";

TEST(ModelConfig, ReadsUpstreamsConfig) {
  const ModelConfig config = parse_model_config(kUpstream, "config.json");
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.dtype, DType::kFloat16);
  EXPECT_EQ(config.vocab_size, 128256);
  EXPECT_EQ(config.max_position_embeddings, 131072);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.num_hidden_layers, 32);
  EXPECT_EQ(config.q_size(), 4096);
  EXPECT_EQ(config.kv_size(), 1024);
  EXPECT_EQ(config.qkv_size(), 6144);
  EXPECT_EQ(config.intermediate_size, 14336);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.rotary_base, 500000.0);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config.rotary_scaling.factor, 8.0);
  EXPECT_EQ(config.rotary_scaling.original_max_position_embeddings, 8192);
  EXPECT_FALSE(config.qkv_bias || config.dense_bias || config.mlp_bias ||
               config.tie_word_embeddings);
}

TEST(ModelConfig, DefaultsFollowTheHeads) {
  json value = json::parse(kUpstream);
  for (const char* key : {"num_key_value_heads", "head_size", "rotary_scaling", "quantization"}) {
    value.erase(key);
  }
  const ModelConfig config = parse_model_config(value.dump(), "config.json");
  EXPECT_EQ(config.num_key_value_heads, 32);
  EXPECT_EQ(config.head_size, 128);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kNone);
}

TEST(ModelConfig, WritesTheKeysThatReadersOfCheckpointsLookFor) {
  const ModelConfig config = parse_model_config(kUpstream, "config.json");
  const json written = json::parse(model_config_to_json(config));
  const json expected = json::parse(kUpstream);
  for (const char* key :
       {"architecture", "dtype", "logits_dtype", "vocab_size", "max_position_embeddings",
        "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "head_size", "hidden_act", "intermediate_size", "norm_epsilon", "position_embedding_type",
        "rotary_base"}) {
    EXPECT_EQ(written[key], expected[key]) << key;
  }
  EXPECT_EQ(written["mapping"]["world_size"], 1);
  EXPECT_TRUE(written["quantization"]["quant_algo"].is_null());
}

struct BadValue {
  const char* name;
  const char* key;  // JSON pointer
  json value;
  const char* message;
  ErrorCode code = ErrorCode::kCorrupt;
};

class ModelConfigBad : public ::testing::TestWithParam<BadValue> {};

TEST_P(ModelConfigBad, IsRefused) {
  json value = json::parse(kUpstream);
  value[json::json_pointer(GetParam().key)] = GetParam().value;
  expect_error(GetParam().code, GetParam().message,
               [&] { parse_model_config(value.dump(), "some/config.json"); });
}

INSTANTIATE_TEST_SUITE_P(
    All, ModelConfigBad,
    ::testing::Values(
        BadValue{"NoVocabulary", "/vocab_size", nullptr, "has no 'vocab_size'"},
        BadValue{"TextForNumber", "/hidden_size", "4096", "'hidden_size' should be an integer"},
        BadValue{"Fraction", "/hidden_size", 4096.5, "'hidden_size' should be an integer"},
        BadValue{"Unsigned", "/hidden_size", ~uint64_t{0}, "should be a smaller integer"},
        BadValue{"Zero", "/num_hidden_layers", 0, "'num_hidden_layers' is 0"},
        BadValue{"Negative", "/intermediate_size", -3, "'intermediate_size' is -3"},
        BadValue{"ManyLayers", "/num_hidden_layers", 10001, "it should be 1 to 10000"},
        BadValue{"HugeMatrix", "/intermediate_size", int64_t{1} << 31, "larger than any model's"},
        BadValue{"NoHeads", "/num_attention_heads", 0, "'num_attention_heads' is 0"},
        BadValue{"Heads", "/num_key_value_heads", 5, "not a multiple of num_key_value_heads 5"},
        BadValue{"HeadProduct", "/head_size", int64_t{1} << 31, "more than any model has"},
        BadValue{"OddHead", "/head_size", 127, "head_size 127 is odd", ErrorCode::kUnsupported},
        BadValue{"Epsilon", "/norm_epsilon", 0.0, "'norm_epsilon' is 0"},
        BadValue{"Base", "/rotary_base", -1, "'rotary_base' is -1"},
        BadValue{"DType", "/dtype", "int8", "'int8' is not a data type", ErrorCode::kUnsupported},
        BadValue{"Activation", "/hidden_act", "gelu", "hidden_act 'gelu'", ErrorCode::kUnsupported},
        BadValue{"Bool", "/tie_word_embeddings", 1, "should be true or false"},
        BadValue{"Position", "/position_embedding_type", "alibi", "'position_embedding_type'",
                 ErrorCode::kUnsupported},
        BadValue{"Ranks", "/mapping/tp_size", 2, "'tp_size' is 2", ErrorCode::kUnsupported},
        BadValue{"Quantised", "/quantization/quant_algo", "W4A16", "'quant_algo' is",
                 ErrorCode::kUnsupported},
        BadValue{"Scaling", "/rotary_scaling", 7, "'rotary_scaling' should be an object"},
        BadValue{"ScalingType", "/rotary_scaling/rope_type", "yarn", "'rope_type' is \"yarn\"",
                 ErrorCode::kUnsupported},
        BadValue{"ScalingFactor", "/rotary_scaling/factor", 0, "rotary_scaling.factor"},
        BadValue{"ScalingOrder", "/rotary_scaling/high_freq_factor", 0.5,
                 "should be above low_freq_factor"}),
    [](const auto& info) { return info.param.name; });

TEST(ModelConfig, NoJsonIsRefused) {
  for (const char* text : {"", "{", "[]", "null", "{\"a\":1}x", "\xff"}) {
    expect_error(ErrorCode::kCorrupt, "is not a JSON object",
                 [&] { parse_model_config(text, "config.json"); });
  }
  expect_error(ErrorCode::kCorrupt, "nested deeper",
               [] { parse_model_config("{\"a\":" + std::string(1'000'000, '['), "config.json"); });
}

ModelConfig arbitrary_config() {
  using rc::gen::inRange;
  ModelConfig config;
  config.dtype = *rc::gen::element(DType::kFloat32, DType::kFloat16, DType::kBFloat16);
  config.vocab_size = *inRange<int64_t>(1, 100000);
  config.max_position_embeddings = *inRange<int64_t>(1, 100000);
  config.hidden_size = *inRange<int64_t>(1, 10000);
  config.num_hidden_layers = *inRange<int64_t>(1, 200);
  config.num_key_value_heads = *inRange<int64_t>(1, 16);
  config.num_attention_heads = config.num_key_value_heads * *inRange<int64_t>(1, 8);
  config.head_size = 2 * *inRange<int64_t>(1, 200);
  config.intermediate_size = *inRange<int64_t>(1, 50000);
  config.norm_epsilon = *inRange(1, 1000) * 1e-7;
  config.rotary_base = *inRange(1, 1000000) + 0.1;
  config.rotary_scaling.kind = *rc::gen::element(
      RopeScaling::Kind::kNone, RopeScaling::Kind::kLinear, RopeScaling::Kind::kLlama3);
  if (config.rotary_scaling.kind != RopeScaling::Kind::kNone) {
    config.rotary_scaling.factor = *inRange(1, 640) / 3.0;
  }
  if (config.rotary_scaling.kind == RopeScaling::Kind::kLlama3) {
    config.rotary_scaling.low_freq_factor = *inRange(1, 10) / 3.0;
    config.rotary_scaling.high_freq_factor = config.rotary_scaling.low_freq_factor + 0.7;
    config.rotary_scaling.original_max_position_embeddings = *inRange<int64_t>(1, 10000);
  }
  config.qkv_bias = *rc::gen::arbitrary<bool>();
  config.dense_bias = *rc::gen::arbitrary<bool>();
  config.mlp_bias = *rc::gen::arbitrary<bool>();
  config.tie_word_embeddings = *rc::gen::arbitrary<bool>();
  return config;
}

RC_GTEST_PROP(ModelConfigProperty, SurvivesItsText, ()) {
  const ModelConfig config = arbitrary_config();
  const ModelConfig read = parse_model_config(model_config_to_json(config), "t");
  RC_ASSERT(read.architecture == config.architecture);
  RC_ASSERT(read.dtype == config.dtype);
  RC_ASSERT(read.vocab_size == config.vocab_size);
  RC_ASSERT(read.max_position_embeddings == config.max_position_embeddings);
  RC_ASSERT(read.hidden_size == config.hidden_size);
  RC_ASSERT(read.num_hidden_layers == config.num_hidden_layers);
  RC_ASSERT(read.num_attention_heads == config.num_attention_heads);
  RC_ASSERT(read.num_key_value_heads == config.num_key_value_heads);
  RC_ASSERT(read.head_size == config.head_size);
  RC_ASSERT(read.intermediate_size == config.intermediate_size);
  RC_ASSERT(read.hidden_act == config.hidden_act);
  RC_ASSERT(read.norm_epsilon == config.norm_epsilon);
  RC_ASSERT(read.rotary_base == config.rotary_base);
  RC_ASSERT(read.rotary_scaling.kind == config.rotary_scaling.kind);
  RC_ASSERT(read.rotary_scaling.factor == config.rotary_scaling.factor);
  RC_ASSERT(read.rotary_scaling.low_freq_factor == config.rotary_scaling.low_freq_factor);
  RC_ASSERT(read.rotary_scaling.high_freq_factor == config.rotary_scaling.high_freq_factor);
  RC_ASSERT(read.rotary_scaling.original_max_position_embeddings ==
            config.rotary_scaling.original_max_position_embeddings);
  RC_ASSERT(read.qkv_bias == config.qkv_bias);
  RC_ASSERT(read.dense_bias == config.dense_bias);
  RC_ASSERT(read.mlp_bias == config.mlp_bias);
  RC_ASSERT(read.tie_word_embeddings == config.tie_word_embeddings);
}

}  // namespace
}  // namespace headrace
