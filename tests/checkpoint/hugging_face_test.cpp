#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/model_source.h"
#include "tests/checkpoint/hf_folder.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::golden_path;
using testing::HuggingFaceFolder;
using testing::MemoryLog;

ModelConfig config_of(const std::string& folder) {
  MemoryLog log;
  return open_hugging_face_source(posix_file_system(), log, folder)->config();
}

/// The error of a folder whose config.json has one value more or other.
void expect_rejected(const char* key, const nlohmann::json& value, const std::string& part,
                     ErrorCode code = ErrorCode::kUnsupported) {
  HuggingFaceFolder folder;
  folder.config[key] = value;
  const std::string path = folder.write();
  expect_error(code, part, [&] { config_of(path); });
}

TEST(HuggingFace, ReadsShape) {
  HuggingFaceFolder folder;
  const ModelConfig config = config_of(folder.write());
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_EQ(config.vocab_size, 5);
  EXPECT_EQ(config.hidden_size, 4);
  EXPECT_EQ(config.num_attention_heads, 2);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.head_size, 4);
  EXPECT_EQ(config.intermediate_size, 3);
  EXPECT_EQ(config.max_position_embeddings, 64);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.rotary_base, 5000.0);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_FALSE(config.qkv_bias || config.dense_bias || config.mlp_bias);
  EXPECT_FALSE(config.tie_word_embeddings);
}

TEST(HuggingFace, DefaultsAreTransformers) {
  HuggingFaceFolder folder;
  for (const char* key : {"num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
                          "rope_theta", "head_dim"}) {
    folder.config.erase(key);
  }
  folder.config["num_attention_heads"] = 1;  // of 4; keys and values as many
  folder.tensor("model.layers.0.self_attn.q_proj.weight") =
      testing::counting_tensor("model.layers.0.self_attn.q_proj.weight", {4, 4}, 0);
  const ModelConfig config = config_of(folder.write());
  EXPECT_EQ(config.head_size, 4);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.norm_epsilon, 1e-6);
  EXPECT_EQ(config.rotary_base, 10000.0);
}

TEST(HuggingFace, ReadsTransformers4) {
  const ModelConfig config = config_of(golden_path("models/bias_llama3/hf"));
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(config.rotary_scaling.factor, 4.0);
  EXPECT_EQ(config.rotary_scaling.low_freq_factor, 1.0);
  EXPECT_EQ(config.rotary_scaling.high_freq_factor, 4.0);
  EXPECT_EQ(config.rotary_scaling.original_max_position_embeddings, 64);
  EXPECT_TRUE(config.qkv_bias && config.dense_bias && config.mlp_bias);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.dtype, DType::kFloat32);
  const ModelConfig linear = config_of(golden_path("models/linear_k75/hf"));
  EXPECT_EQ(linear.rotary_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(linear.rotary_scaling.factor, 2.5);
  EXPECT_TRUE(linear.qkv_bias && linear.dense_bias);
  EXPECT_FALSE(linear.mlp_bias);
}

TEST(HuggingFace, ReadsTransformers5AndShards) {
  const ModelConfig config = config_of(golden_path("models/shards_bf16/hf"));
  EXPECT_EQ(config.rotary_base, 500000.0);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(config.dtype, DType::kBFloat16);
  EXPECT_TRUE(config.tie_word_embeddings);
}

TEST(HuggingFace, WithoutDtypeTheEmbeddingDecides) {
  HuggingFaceFolder folder;
  folder.config.erase("torch_dtype");
  folder.tensor("model.embed_tokens.weight") =
      testing::counting_tensor("model.embed_tokens.weight", {5, 4}, 0, DType::kBFloat16);
  EXPECT_EQ(config_of(folder.write()).dtype, DType::kBFloat16);
}

TEST(HuggingFace, UnsupportedValuesAreNamed) {
  expect_rejected("architectures", {"MistralForCausalLM"}, "MistralForCausalLM");
  expect_rejected("architectures", {"A", "B"}, "architectures");
  expect_rejected("hidden_act", "gelu", "gelu");
  expect_rejected("torch_dtype", "float64", "float64");
  expect_rejected("quantization_config", {{"quant_method", "gptq"}}, "quantization_config");
  expect_rejected("rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}, "yarn");
  expect_rejected("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}, "dynamic");
  expect_rejected("rope_parameters", {{"rope_type", "longrope"}}, "longrope");
  expect_rejected("rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}},
                  "partial_rotary_factor");
  expect_rejected("partial_rotary_factor", 0.5, "partial_rotary_factor");
}

TEST(HuggingFace, ContradictionsAreNamed) {
  const auto corrupt = ErrorCode::kCorrupt;
  expect_rejected("hidden_size", nullptr, "hidden_size", corrupt);
  expect_rejected("hidden_size", "4", "hidden_size", corrupt);
  expect_rejected("num_hidden_layers", -1, "num_hidden_layers", corrupt);
  expect_rejected("num_attention_heads", 0, "num_attention_heads", corrupt);
  expect_rejected("num_key_value_heads", 3, "num_key_value_heads", corrupt);
  expect_rejected("rope_scaling", {{"type", "linear"}}, "factor", corrupt);
  expect_rejected("rope_scaling", {{"type", "llama3"}, {"factor", 8.0}}, "low_freq_factor",
                  corrupt);
}

TEST(HuggingFace, HeadsThatDoNotDivide) {
  HuggingFaceFolder folder;
  folder.config.erase("head_dim");
  folder.config["num_attention_heads"] = 3;
  folder.config["num_key_value_heads"] = 3;
  const std::string path = folder.write();
  expect_error(ErrorCode::kUnsupported, "head_dim", [&] { config_of(path); });
}

TEST(HuggingFace, FoldersThatAreNone) {
  MemoryLog log;
  const testing::TemporaryDirectory empty;
  expect_error(ErrorCode::kNotFound, "config.json", [&] { config_of(empty.path()); });
  expect_error(ErrorCode::kNotFound, "nowhere",
               [&] { open_model_source(posix_file_system(), log, empty / "nowhere"); });
  const HuggingFaceFolder no_weights;
  no_weights.write_config();
  expect_error(ErrorCode::kNotFound, "model.safetensors",
               [&] { config_of(no_weights.directory.path()); });
}

/// A folder with an index and the two shards that the tests name.
struct Sharded : HuggingFaceFolder {
  nlohmann::json map;
  Sharded() {
    const std::vector<testing::NamedTensor> first(tensors.begin(), tensors.begin() + 5);
    const std::vector<testing::NamedTensor> second(tensors.begin() + 5, tensors.end());
    write_config();
    testing::write_safetensors(directory / "a.safetensors", first);
    testing::write_safetensors(directory / "b.safetensors", second);
    for (const auto& tensor : first) map[tensor.name] = "a.safetensors";
    for (const auto& tensor : second) map[tensor.name] = "b.safetensors";
  }
  std::string write_index() const {
    write_text_file(posix_file_system(), directory / "model.safetensors.index.json",
                    nlohmann::json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump());
    return directory.path();
  }
};

TEST(HuggingFace, FindsTensorsInShards) {
  const Sharded folder;
  MemoryLog log;
  const auto source = open_hugging_face_source(posix_file_system(), log, folder.write_index());
  SourcePart part;
  part.hugging_face_name = "model.norm.weight";
  part.shape = {4};
  std::vector<float> values(2);
  source->read(source->find(part), 4, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{1001, 1002}));
  EXPECT_EQ(source->tensor_names().size(), 12u);
}

TEST(HuggingFace, MissingShard) {
  const Sharded folder;
  folder.write_index();
  posix_file_system().remove(folder.directory / "b.safetensors");
  expect_error(ErrorCode::kNotFound, "b.safetensors", [&] { config_of(folder.directory.path()); });
}

TEST(HuggingFace, IndexThatLies) {
  Sharded folder;
  folder.map["model.norm.weight"] = "a.safetensors";
  folder.write_index();
  expect_error(ErrorCode::kCorrupt, "model.norm.weight",
               [&] { config_of(folder.directory.path()); });
  for (const char* name : {"../b.safetensors", "/etc/passwd", "..", ""}) {
    folder.map["model.norm.weight"] = name;
    folder.write_index();
    expect_error(ErrorCode::kCorrupt, "not the name of a file",
                 [&] { config_of(folder.directory.path()); });
  }
  folder.map["model.norm.weight"] = 3;
  folder.write_index();
  expect_error(ErrorCode::kCorrupt, "not a text", [&] { config_of(folder.directory.path()); });
}

TEST(HuggingFace, TiedHeadThatIsTheEmbedding) {
  HuggingFaceFolder folder;
  folder.config["tie_word_embeddings"] = true;
  folder.tensor("lm_head.weight").bytes = folder.tensor("model.embed_tokens.weight").bytes;
  MemoryLog log;
  const auto source = open_hugging_face_source(posix_file_system(), log, folder.write());
  EXPECT_TRUE(source->config().tie_word_embeddings);
  EXPECT_TRUE(log.lines_with("").empty());
}

TEST(HuggingFace, TiedHeadThatDiffersIsUsed) {
  HuggingFaceFolder folder;
  folder.config["tie_word_embeddings"] = true;
  MemoryLog log;
  const auto source = open_hugging_face_source(posix_file_system(), log, folder.write());
  EXPECT_FALSE(source->config().tie_word_embeddings);
  EXPECT_EQ(log.lines_with("lm_head.weight").size(), 1u);
}

}  // namespace
}  // namespace headrace
