#include "checkpoint/convert.h"

#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "tests/checkpoint/hf_folder.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/limited_file_system.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::counting_tensor;
using testing::expect_error;
using testing::HuggingFaceFolder;
using testing::TemporaryDirectory;
using testing::TestContext;

ConvertReport convert(const std::string& from, const std::string& to,
                      std::optional<DType> dtype = {}, int threads = 1) {
  TestContext test(threads);
  return convert_model(from, to, dtype, test.context);
}

std::vector<float> floats_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorEntry* entry = checkpoint.tensors().find(name);
  if (entry == nullptr || entry->dtype != DType::kFloat32) {
    ADD_FAILURE() << name;
    return {};
  }
  std::vector<float> values(entry->elements());
  checkpoint.tensors().read(*entry, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<float> counting(float first, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

TEST(Convert, NamesAndPlaces) {
  const HuggingFaceFolder folder;
  const TemporaryDirectory out;
  const ConvertReport report = convert(folder.write(), out / "ckpt");
  EXPECT_EQ(report.tensors, 10u);
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), out / "ckpt");
  const std::string layer = "transformer.layers.0.";
  EXPECT_EQ(floats_of(checkpoint, "transformer.vocab_embedding.weight"), counting(0, 20));
  EXPECT_EQ(floats_of(checkpoint, layer + "input_layernorm.weight"), counting(100, 4));
  std::vector<float> qkv = counting(200, 32);
  for (const float first : {300.0f, 400.0f}) {
    const std::vector<float> part = counting(first, 16);
    qkv.insert(qkv.end(), part.begin(), part.end());
  }
  EXPECT_EQ(floats_of(checkpoint, layer + "attention.qkv.weight"), qkv);
  EXPECT_EQ(floats_of(checkpoint, layer + "attention.dense.weight"), counting(500, 32));
  EXPECT_EQ(floats_of(checkpoint, layer + "post_layernorm.weight"), counting(600, 4));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.fc.weight"), counting(700, 12));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.gate.weight"), counting(800, 12));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.proj.weight"), counting(900, 12));
  EXPECT_EQ(floats_of(checkpoint, "transformer.ln_f.weight"), counting(1000, 4));
  EXPECT_EQ(floats_of(checkpoint, "lm_head.weight"), counting(1100, 20));
}

TEST(Convert, Biases) {
  HuggingFaceFolder folder;
  folder.config["attention_bias"] = true;
  folder.config["mlp_bias"] = true;
  const std::string theirs = "model.layers.0.";
  folder.tensors.push_back(counting_tensor(theirs + "self_attn.q_proj.bias", {8}, 1200));
  folder.tensors.push_back(counting_tensor(theirs + "self_attn.k_proj.bias", {4}, 1208));
  folder.tensors.push_back(counting_tensor(theirs + "self_attn.v_proj.bias", {4}, 1212));
  folder.tensors.push_back(counting_tensor(theirs + "self_attn.o_proj.bias", {4}, 1300));
  folder.tensors.push_back(counting_tensor(theirs + "mlp.gate_proj.bias", {3}, 1400));
  folder.tensors.push_back(counting_tensor(theirs + "mlp.up_proj.bias", {3}, 1500));
  folder.tensors.push_back(counting_tensor(theirs + "mlp.down_proj.bias", {4}, 1600));
  const TemporaryDirectory out;
  convert(folder.write(), out / "ckpt");
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), out / "ckpt");
  const std::string layer = "transformer.layers.0.";
  EXPECT_EQ(floats_of(checkpoint, layer + "attention.qkv.bias"), counting(1200, 16));
  EXPECT_EQ(floats_of(checkpoint, layer + "attention.dense.bias"), counting(1300, 4));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.fc.bias"), counting(1400, 3));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.gate.bias"), counting(1500, 3));
  EXPECT_EQ(floats_of(checkpoint, layer + "mlp.proj.bias"), counting(1600, 4));
}

TEST(Convert, MoreThanOnePieceOnManyThreads) {
  // 5 M elements of embedding: two pieces of 4 Mi.
  constexpr int64_t kVocabulary = 1'310'720;
  HuggingFaceFolder folder;
  folder.config["vocab_size"] = kVocabulary;
  folder.config["tie_word_embeddings"] = true;
  folder.erase("lm_head.weight");
  std::vector<float> values(static_cast<size_t>(kVocabulary) * 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 2039);
  folder.tensor("model.embed_tokens.weight") = {
      .name = "model.embed_tokens.weight",
      .dtype = DType::kBFloat16,
      .shape = {kVocabulary, 4},
      .bytes = testing::to_bytes(values, DType::kBFloat16)};
  const TemporaryDirectory out;
  convert(folder.write(), out / "ckpt", DType::kFloat16, 3);
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), out / "ckpt");
  const TensorEntry* entry = checkpoint.tensors().find("transformer.vocab_embedding.weight");
  ASSERT_NE(entry, nullptr);
  std::vector<std::byte> got(entry->size_bytes);
  checkpoint.tensors().read(*entry, 0, got);
  // bfloat16 keeps 8 bits of these; float16 holds the result exactly.
  for (float& value : values) {
    const std::vector<std::byte> bytes = testing::to_bytes({value}, DType::kBFloat16);
    uint32_t bits = 0;
    std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2, bytes.data(), 2);
    std::memcpy(&value, &bits, sizeof value);
  }
  EXPECT_TRUE(got == testing::to_bytes(values, DType::kFloat16));
}

TEST(Convert, TellsWhatWasLost) {
  HuggingFaceFolder folder;
  folder.tensor("model.norm.weight").bytes =
      testing::to_bytes({1e6f, -1e6f, 1e-20f, 1.0f}, DType::kFloat32);
  const TemporaryDirectory out;
  const ConvertReport report = convert(folder.write(), out / "ckpt", DType::kFloat16);
  EXPECT_EQ(report.narrowing.overflowed, 2u);
  EXPECT_EQ(report.narrowing.flushed, 1u);
  EXPECT_EQ(report.narrowed_values, 184u);  // all values of the model
  EXPECT_EQ(report.config.dtype, DType::kFloat16);
  EXPECT_EQ(convert(folder.write(), out / "same").narrowed_values, 0u);
}

TEST(Convert, RefusesWhatItWouldLeaveOut) {
  HuggingFaceFolder folder;
  folder.tensors.push_back(counting_tensor("model.layers.0.self_attn.q_norm.weight", {4}, 0));
  const TemporaryDirectory out;
  const std::string path = folder.write();
  expect_error(ErrorCode::kUnsupported, "q_norm", [&] { convert(path, out / "ckpt"); });
  EXPECT_FALSE(posix_file_system().exists(out / "ckpt"));
}

TEST(Convert, IgnoresStoredFrequencies) {
  HuggingFaceFolder folder;
  folder.tensors.push_back(counting_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, 0));
  const TemporaryDirectory out;
  EXPECT_EQ(convert(folder.write(), out / "ckpt").tensors, 10u);
}

TEST(Convert, MissingAndMisshapenTensors) {
  const TemporaryDirectory out;
  HuggingFaceFolder missing;
  missing.erase("model.layers.0.mlp.up_proj.weight");
  const std::string without = missing.write();
  expect_error(ErrorCode::kNotFound, "mlp.up_proj", [&] { convert(without, out / "ckpt"); });
  HuggingFaceFolder misshapen;
  misshapen.tensor("model.norm.weight") = counting_tensor("model.norm.weight", {5}, 0);
  const std::string wrong = misshapen.write();
  expect_error(ErrorCode::kCorrupt, "model.norm.weight", [&] { convert(wrong, out / "ckpt"); });
  EXPECT_FALSE(posix_file_system().exists(out / "ckpt"));
}

TEST(Convert, CompanionsTravelAndStaleOnesGo) {
  const HuggingFaceFolder folder;
  const std::string from = folder.write();
  FileSystem& fs = posix_file_system();
  write_text_file(fs, folder.directory / "tokenizer.json", "{\"a\": 1}");
  write_text_file(fs, folder.directory / "notes.txt", "no companion");
  const TemporaryDirectory out;
  fs.create_directories(out / "ckpt");
  write_text_file(fs, out / "ckpt/tokenizer_gguf.json", "of an earlier model");
  write_text_file(fs, out / "ckpt/mine.txt", "the user's");
  convert(from, out / "ckpt");
  EXPECT_EQ(
      fs.list(out / "ckpt"),
      (std::vector<std::string>{"config.json", "mine.txt", "rank0.safetensors", "tokenizer.json"}));
  EXPECT_EQ(testing::read_file(out / "ckpt/tokenizer.json"), "{\"a\": 1}");
}

TEST(Convert, NeverOverwritesAnotherConfig) {
  const HuggingFaceFolder folder;
  const std::string from = folder.write();
  expect_error(ErrorCode::kInvalidArgument, "model.safetensors", [&] { convert(from, from); });
  EXPECT_EQ(testing::read_file(folder.directory / "config.json"), folder.config.dump());
}

TEST(Convert, FullDiskLeavesNothing) {
  const HuggingFaceFolder folder;
  const std::string from = folder.write();
  const TemporaryDirectory out;
  for (const uint64_t limit : {0, 10, 1500, 2000}) {
    testing::LimitedFileSystem full(limit);
    TestContext test(1, full);
    expect_error(ErrorCode::kIo, "", [&] { convert_model(from, out / "ckpt", {}, test.context); });
    EXPECT_FALSE(posix_file_system().exists(out / "ckpt")) << limit;
  }
}

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 300;
  config.max_position_embeddings = 64;
  config.hidden_size = 40;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_size = 10;
  config.intermediate_size = 70;
  config.qkv_bias = true;
  return config;
}

std::string make(std::optional<uint64_t> seed, const std::string& to, int threads = 1) {
  TestContext test(threads);
  make_checkpoint(small_config(), seed, to, test.context);
  return testing::read_file(join_path(to, "rank0.safetensors"));
}

TEST(MakeCheckpoint, SeedAloneDecides) {
  const TemporaryDirectory out;
  const std::string one = make(1, out / "a");
  EXPECT_TRUE(one == make(1, out / "b", 3));
  EXPECT_FALSE(one == make(2, out / "c"));
  Checkpoint::open(posix_file_system(), out / "a");  // all tensors are there
}

TEST(MakeCheckpoint, NormsAreOneAndMatricesAreNot) {
  const TemporaryDirectory out;
  make(1, out / "a");
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), out / "a");
  std::vector<uint16_t> norm(40);
  checkpoint.tensors().read(*checkpoint.tensors().find("transformer.ln_f.weight"), 0,
                            std::as_writable_bytes(std::span(norm)));
  EXPECT_EQ(norm, std::vector<uint16_t>(40, 0x3c00));
  std::vector<uint16_t> row(40);
  checkpoint.tensors().read(*checkpoint.tensors().find("lm_head.weight"), 80,
                            std::as_writable_bytes(std::span(row)));
  EXPECT_GT(std::set<uint16_t>(row.begin(), row.end()).size(), 30u);
}

TEST(MakeCheckpoint, WithoutSeedAllIsZero) {
  const TemporaryDirectory out;
  const std::string file = make({}, out / "a");
  const size_t data =
      Checkpoint::open(posix_file_system(), out / "a").tensors().entries()[0].offset;
  EXPECT_EQ(file.find_first_not_of('\0', data), std::string::npos);
}

TEST(MakeCheckpoint, RefusesShapesThatNoModelHas) {
  const TemporaryDirectory out;
  TestContext test;
  ModelConfig config = small_config();
  config.num_key_value_heads = 3;
  expect_error(ErrorCode::kCorrupt, "num_key_value_heads",
               [&] { make_checkpoint(config, 1, out / "a", test.context); });
  EXPECT_FALSE(posix_file_system().exists(out / "a"));
}

}  // namespace
}  // namespace headrace
