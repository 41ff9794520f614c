#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::NamedTensor;
using testing::TemporaryDirectory;

/// A one-layer model whose tensors are listed here by hand: 2 heads of 4, 1 KV head, hidden 6,
/// intermediate 10, vocabulary 11.
ModelConfig small_config() {
  ModelConfig config;
  config.dtype = DType::kFloat16;
  config.vocab_size = 11;
  config.max_position_embeddings = 32;
  config.hidden_size = 6;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_size = 4;
  config.intermediate_size = 10;
  return config;
}

std::vector<NamedTensor> small_tensors() {
  const std::string layer = "transformer.layers.0.";
  std::vector<NamedTensor> tensors = {
      {.name = "transformer.vocab_embedding.weight", .shape = {11, 6}},
      {.name = layer + "input_layernorm.weight", .shape = {6}},
      {.name = layer + "attention.qkv.weight", .shape = {16, 6}},
      {.name = layer + "attention.dense.weight", .shape = {6, 8}},
      {.name = layer + "post_layernorm.weight", .shape = {6}},
      {.name = layer + "mlp.fc.weight", .shape = {10, 6}},
      {.name = layer + "mlp.gate.weight", .shape = {10, 6}},
      {.name = layer + "mlp.proj.weight", .shape = {6, 10}},
      {.name = "transformer.ln_f.weight", .shape = {6}},
      {.name = "lm_head.weight", .shape = {11, 6}},
  };
  for (NamedTensor& tensor : tensors) tensor.dtype = DType::kFloat16;
  return tensors;
}

/// Fills the tensors with zeros and writes the folder.
void write_folder(const TemporaryDirectory& folder, const ModelConfig& config,
                  std::vector<NamedTensor> tensors) {
  for (NamedTensor& tensor : tensors) {
    size_t bytes = dtype_size(tensor.dtype);
    for (const int64_t dimension : tensor.shape) bytes *= static_cast<size_t>(dimension);
    tensor.bytes.resize(bytes);
  }
  testing::write_safetensors(folder / "rank0.safetensors", tensors);
  append_text(*posix_file_system().create(folder / "config.json"), model_config_to_json(config));
}

Checkpoint open(const TemporaryDirectory& folder) {
  return Checkpoint::open(posix_file_system(), folder.path());
}

TEST(Checkpoint, OpensAFolder) {
  const TemporaryDirectory folder;
  write_folder(folder, small_config(), small_tensors());
  for (const char* name : {"tokenizer.json", "chat_template.jinja", "notes.txt", "model.bin"}) {
    append_text(*posix_file_system().create(folder / name), "x");
  }
  posix_file_system().create_directories(folder / "tokenizer_config.json");
  const Checkpoint checkpoint = open(folder);
  EXPECT_EQ(checkpoint.config().hidden_size, 6);
  EXPECT_EQ(checkpoint.tensors().entries().size(), 10u);
  EXPECT_EQ(checkpoint.directory(), folder.path());
  EXPECT_THAT(checkpoint.companion_files(),
              ::testing::ElementsAre("chat_template.jinja", "tokenizer.json"));
}

TEST(Checkpoint, ATiedModelHasNoHead) {
  const TemporaryDirectory folder;
  ModelConfig config = small_config();
  config.tie_word_embeddings = true;
  std::vector<NamedTensor> tensors = small_tensors();
  write_folder(folder, config, tensors);
  expect_error(ErrorCode::kCorrupt, "holds the tensor lm_head.weight", [&] { open(folder); });
  tensors.pop_back();
  write_folder(folder, config, tensors);
  EXPECT_TRUE(open(folder).config().tie_word_embeddings);
}

TEST(Checkpoint, BiasesArePartOfTheModel) {
  const TemporaryDirectory folder;
  ModelConfig config = small_config();
  config.qkv_bias = config.dense_bias = config.mlp_bias = true;
  std::vector<NamedTensor> tensors = small_tensors();
  const auto add = [&](const char* name, int64_t count) {
    tensors.push_back({.name = std::string("transformer.layers.0.") + name,
                       .dtype = DType::kFloat16,
                       .shape = {count}});
  };
  add("attention.qkv.bias", 16);
  add("attention.dense.bias", 6);
  add("mlp.fc.bias", 10);
  add("mlp.gate.bias", 10);
  add("mlp.proj.bias", 6);
  write_folder(folder, config, tensors);
  EXPECT_EQ(open(folder).tensors().entries().size(), 15u);
  config.mlp_bias = false;
  write_folder(folder, config, tensors);
  expect_error(ErrorCode::kCorrupt, "holds the tensor transformer.layers.0.mlp.",
               [&] { open(folder); });
}

TEST(Checkpoint, EveryTensorIsNeeded) {
  for (size_t i = 0; i < small_tensors().size(); ++i) {
    const TemporaryDirectory folder;
    std::vector<NamedTensor> tensors = small_tensors();
    const std::string name = tensors[i].name;
    tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(i));
    write_folder(folder, small_config(), tensors);
    expect_error(ErrorCode::kNotFound, "has no tensor " + name, [&] { open(folder); });
  }
}

TEST(Checkpoint, EveryShapeAndTypeIsChecked) {
  for (size_t i = 0; i < small_tensors().size(); ++i) {
    const TemporaryDirectory folder;
    std::vector<NamedTensor> tensors = small_tensors();
    tensors[i].shape.back() += 1;
    write_folder(folder, small_config(), tensors);
    expect_error(ErrorCode::kCorrupt, tensors[i].name + " is F16 [", [&] { open(folder); });
    tensors = small_tensors();
    tensors[i].dtype = DType::kBFloat16;
    write_folder(folder, small_config(), tensors);
    expect_error(ErrorCode::kCorrupt, tensors[i].name + " is BF16 [", [&] { open(folder); });
  }
}

TEST(Checkpoint, ForeignTensorsAreRefused) {
  const TemporaryDirectory folder;
  std::vector<NamedTensor> tensors = small_tensors();
  tensors.push_back({.name = "lora", .dtype = DType::kFloat16, .shape = {1}});
  write_folder(folder, small_config(), tensors);
  expect_error(ErrorCode::kCorrupt, "holds the tensor lora", [&] { open(folder); });
}

TEST(Checkpoint, MissingFilesAreNamed) {
  const TemporaryDirectory folder;
  expect_error(ErrorCode::kNotFound, "config.json", [&] { open(folder); });
  append_text(*posix_file_system().create(folder / "config.json"),
              model_config_to_json(small_config()));
  expect_error(ErrorCode::kNotFound, "rank0.safetensors", [&] { open(folder); });
}

TEST(Checkpoint, CompanionsAreFilesOfTheModelNotItsWeights) {
  EXPECT_TRUE(is_companion_file("tokenizer.json"));
  EXPECT_TRUE(is_companion_file("tokenizer_gguf.json"));
  EXPECT_TRUE(is_companion_file("generation_config.json"));
  EXPECT_FALSE(is_companion_file("config.json"));
  EXPECT_FALSE(is_companion_file("model.safetensors.index.json"));
  EXPECT_FALSE(is_companion_file("rank0.safetensors"));
}

}  // namespace
}  // namespace headrace
