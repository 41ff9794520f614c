#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "checkpoint/model_source.h"
#include "tests/checkpoint/gguf_bytes.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::GgufBytes;
using testing::TemporaryDirectory;
using testing::TestContext;

/// A Llama of one layer in F32: hidden size 4, two heads of 6 (one of keys and values),
/// intermediate size 3, 5 tokens. The tests change what they need.
struct SmallGguf {
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // as GGUF has them: columns first
    std::vector<float> values;
  };
  std::map<std::string, uint32_t> integers = {
      {"llama.context_length", 64},      {"llama.embedding_length", 4},
      {"llama.feed_forward_length", 3},  {"llama.block_count", 1},
      {"llama.attention.head_count", 2}, {"llama.attention.head_count_kv", 1},
      {"llama.attention.key_length", 6}, {"llama.attention.value_length", 6},
      {"llama.rope.dimension_count", 6}};
  std::map<std::string, std::string> texts = {{"general.architecture", "llama"}};
  std::map<std::string, float> numbers = {{"llama.attention.layer_norm_rms_epsilon", 0.5f},
                                          {"llama.rope.freq_base", 500000.0f}};
  std::vector<Tensor> tensors;

  SmallGguf() {
    add("token_embd.weight", {4, 5}, 0);
    add("blk.0.attn_norm.weight", {4}, 100);
    add("blk.0.attn_q.weight", {4, 12}, 200);
    add("blk.0.attn_k.weight", {4, 6}, 300);
    add("blk.0.attn_v.weight", {4, 6}, 400);
    add("blk.0.attn_output.weight", {12, 4}, 500);
    add("blk.0.ffn_norm.weight", {4}, 600);
    add("blk.0.ffn_gate.weight", {4, 3}, 700);
    add("blk.0.ffn_up.weight", {4, 3}, 800);
    add("blk.0.ffn_down.weight", {3, 4}, 900);
    add("output_norm.weight", {4}, 1000);
  }

  void add(const std::string& name, const std::vector<uint64_t>& dimensions, float first) {
    uint64_t count = 1;
    for (const uint64_t size : dimensions) count *= size;
    Tensor tensor{name, dimensions, {}};
    for (uint64_t i = 0; i < count; ++i) tensor.values.push_back(first + static_cast<float>(i));
    tensors.push_back(std::move(tensor));
  }

  std::string write(const TemporaryDirectory& directory) const {
    constexpr uint32_t kFloat32 = 6;
    GgufBytes bytes(tensors.size(), integers.size() + texts.size() + numbers.size());
    for (const auto& [key, value] : integers) bytes.key(key, GgufBytes::kUint32).add(value);
    for (const auto& [key, value] : texts) bytes.key(key, GgufBytes::kString).text(value);
    for (const auto& [key, value] : numbers) bytes.key(key, kFloat32).add(value);
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      bytes.tensor(tensor.name, tensor.dimensions, GgufBytes::kTypeF32, offset);
      offset += (tensor.values.size() * 4 + 31) / 32 * 32;
    }
    for (const Tensor& tensor : tensors) {
      bytes.data(0);
      for (const float value : tensor.values) bytes.add(value);
    }
    bytes.data(0);
    const auto file = posix_file_system().create(directory / "model.gguf");
    file->append(bytes.take());
    return directory / "model.gguf";
  }
};

ModelConfig config_of(const SmallGguf& gguf) {
  const TemporaryDirectory directory;
  return open_gguf_source(posix_file_system(), gguf.write(directory))->config();
}

void expect_rejected(const SmallGguf& gguf, ErrorCode code, const std::string& part) {
  const TemporaryDirectory directory;
  const std::string path = gguf.write(directory);
  TestContext test;
  expect_error(code, part, [&] { convert_model(path, directory / "ckpt", {}, test.context); });
}

TEST(GgufSource, ReadsShape) {
  const ModelConfig config = config_of({});
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_EQ(config.vocab_size, 5);
  EXPECT_EQ(config.max_position_embeddings, 64);
  EXPECT_EQ(config.hidden_size, 4);
  EXPECT_EQ(config.num_hidden_layers, 1);
  EXPECT_EQ(config.num_attention_heads, 2);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.head_size, 6);
  EXPECT_EQ(config.intermediate_size, 3);
  EXPECT_EQ(config.norm_epsilon, 0.5);
  EXPECT_EQ(config.rotary_base, 500000.0);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.qkv_bias || config.dense_bias || config.mlp_bias);
}

TEST(GgufSource, RowsOfQueriesAndKeysAreUnwoven) {
  const TemporaryDirectory directory;
  TestContext test;
  convert_model(SmallGguf().write(directory), directory / "ckpt", {}, test.context);
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), directory / "ckpt");
  std::vector<float> qkv(24 * 4);
  const TensorEntry* entry = checkpoint.tensors().find("transformer.layers.0.attention.qkv.weight");
  ASSERT_NE(entry, nullptr);
  checkpoint.tensors().read(*entry, 0, std::as_writable_bytes(std::span(qkv)));
  // A head of six rows is stored as our rows 0 3 1 4 2 5; so ours are the stored 0 2 4 1 3 5.
  const std::vector<float> first_of_row = {200, 208, 216, 204, 212, 220,   // first head's queries
                                           224, 232, 240, 228, 236, 244,   // second head's
                                           300, 308, 316, 304, 312, 320,   // keys
                                           400, 404, 408, 412, 416, 420};  // values, as they are
  for (size_t row = 0; row < first_of_row.size(); ++row) {
    for (size_t column = 0; column < 4; ++column) {
      EXPECT_EQ(qkv[row * 4 + column], first_of_row[row] + static_cast<float>(column))
          << row << " " << column;
    }
  }
}

TEST(GgufSource, BiasesAreUnwovenToo) {
  SmallGguf gguf;
  gguf.add("blk.0.attn_q.bias", {12}, 0);
  gguf.add("blk.0.attn_k.bias", {6}, 12);
  gguf.add("blk.0.attn_v.bias", {6}, 18);
  const TemporaryDirectory directory;
  TestContext test;
  convert_model(gguf.write(directory), directory / "ckpt", {}, test.context);
  const Checkpoint checkpoint = Checkpoint::open(posix_file_system(), directory / "ckpt");
  std::vector<float> bias(24);
  const TensorEntry* entry = checkpoint.tensors().find("transformer.layers.0.attention.qkv.bias");
  ASSERT_NE(entry, nullptr);
  checkpoint.tensors().read(*entry, 0, std::as_writable_bytes(std::span(bias)));
  EXPECT_EQ(bias, (std::vector<float>{0,  2,  4,  1,  3,  5,  6,  8,  10, 7,  9,  11,
                                      12, 14, 16, 13, 15, 17, 18, 19, 20, 21, 22, 23}));
}

TEST(GgufSource, HeadOfItsOwn) {
  SmallGguf gguf;
  gguf.add("output.weight", {4, 5}, 0);
  EXPECT_FALSE(config_of(gguf).tie_word_embeddings);
}

TEST(GgufSource, LinearScaling) {
  SmallGguf gguf;
  gguf.texts["llama.rope.scaling.type"] = "linear";
  gguf.numbers["llama.rope.scaling.factor"] = 4.0f;
  const ModelConfig config = config_of(gguf);
  EXPECT_EQ(config.rotary_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(config.rotary_scaling.factor, 4.0);
}

/// The divisors of Llama 3.1's scaling (factor 8, 1 and 4, 8192 positions), base 500000, heads of
/// 6: wavelengths 2 pi, 2 pi 500000^(1/3) = 498.7 and 2 pi 500000^(2/3) = 39582. Below 2048 (8192 /
/// 4) nothing changes, above 8192 all of the factor applies.
SmallGguf llama3_gguf() {
  SmallGguf gguf;
  gguf.tensors.push_back({"rope_freqs.weight", {3}, {1.0f, 1.0f, 8.0f}});
  return gguf;
}

TEST(GgufSource, Llama3ScalingIsRecovered) {
  const RopeScaling scaling = config_of(llama3_gguf()).rotary_scaling;
  EXPECT_EQ(scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(scaling.factor, 8.0);
  EXPECT_EQ(scaling.low_freq_factor, 1.0);
  EXPECT_EQ(scaling.high_freq_factor, 4.0);
  EXPECT_EQ(scaling.original_max_position_embeddings, 8192);
}

/// Base 1e4: wavelengths 2 pi, 2 pi 1e4^(1/3) = 135.4 and 2 pi 1e4^(2/3) = 2916.4.
double wavelength_of_base_1e4(int pair) {
  return 2.0 * std::acos(-1.0) * std::pow(10.0, 4.0 * pair / 3.0);
}

TEST(GgufSource, Llama3ScalingOfAnotherLength) {
  // Trained on 300 positions: 135.4 is between 75 and 300; smooth = (300 / 135.4 - 1) / 3 =
  // 0.40540, divisor 1 / ((1 - smooth) / 8 + smooth) = 2.0845.
  const double smooth = (300.0 / wavelength_of_base_1e4(1) - 1.0) / 3.0;
  const double divisor = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
  EXPECT_NEAR(divisor, 2.0845, 1e-4);
  SmallGguf gguf;
  gguf.numbers["llama.rope.freq_base"] = 10000.0f;
  gguf.tensors.push_back({"rope_freqs.weight", {3}, {1.0f, static_cast<float>(divisor), 8.0f}});
  const RopeScaling scaling = config_of(gguf).rotary_scaling;
  EXPECT_EQ(scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(scaling.factor, 8.0);
  EXPECT_EQ(scaling.original_max_position_embeddings, 300);
}

TEST(GgufSource, Llama3ScalingWithNothingBetweenTheBounds) {
  // 135.4 is left alone, 2916.4 divided whole: any length from 4 * 135.4 = 541.5 to 2916.4 says so.
  SmallGguf gguf;
  gguf.numbers["llama.rope.freq_base"] = 10000.0f;
  gguf.tensors.push_back({"rope_freqs.weight", {3}, {1.0f, 1.0f, 5.0f}});
  const RopeScaling scaling = config_of(gguf).rotary_scaling;
  EXPECT_EQ(scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(scaling.factor, 5.0);
  EXPECT_GT(scaling.original_max_position_embeddings, 541);
  EXPECT_LT(scaling.original_max_position_embeddings, 2917);
}

TEST(GgufSource, OtherDivisorsAreRefused) {
  SmallGguf gguf = llama3_gguf();
  gguf.tensors.back().values[0] = 1.5f;  // more than the next
  expect_rejected(gguf, ErrorCode::kUnsupported, "rope_freqs.weight");
  gguf.tensors.back().values = {1.0f, 0.5f, 8.0f};
  expect_rejected(gguf, ErrorCode::kUnsupported, "rope_freqs.weight");
  gguf.tensors.back().values = {1.0f, 1.0f, INFINITY};
  expect_rejected(gguf, ErrorCode::kUnsupported, "rope_freqs.weight");
  gguf.tensors.back() = {"rope_freqs.weight", {2}, {1.0f, 8.0f}};
  expect_rejected(gguf, ErrorCode::kCorrupt, "rope_freqs.weight");
  gguf.tensors.back() = {"rope_freqs.weight", {3}, {1.0f, 1.0f, NAN}};
  expect_rejected(gguf, ErrorCode::kUnsupported, "rope_freqs.weight");
}

TEST(GgufSource, DivisorsOfOneAreNoScaling) {
  SmallGguf gguf;
  gguf.tensors.push_back({"rope_freqs.weight", {3}, {1.0f, 1.0f, 1.0f}});
  EXPECT_EQ(config_of(gguf).rotary_scaling.kind, RopeScaling::Kind::kNone);
}

TEST(GgufSource, UnsupportedValuesAreNamed) {
  SmallGguf gguf;
  gguf.texts["general.architecture"] = "falcon";
  expect_rejected(gguf, ErrorCode::kUnsupported, "falcon");
  gguf = {};
  gguf.texts["llama.rope.scaling.type"] = "yarn";
  expect_rejected(gguf, ErrorCode::kUnsupported, "yarn");
  gguf = {};
  gguf.integers["llama.expert_count"] = 8;
  expect_rejected(gguf, ErrorCode::kUnsupported, "llama.expert_count");
  gguf = {};
  gguf.integers["llama.rope.dimension_count"] = 4;
  expect_rejected(gguf, ErrorCode::kUnsupported, "llama.rope.dimension_count");
  gguf = {};
  gguf.add("blk.0.attn_q_norm.weight", {6}, 0);
  expect_rejected(gguf, ErrorCode::kUnsupported, "blk.0.attn_q_norm.weight");
}

TEST(GgufSource, ContradictionsAreNamed) {
  SmallGguf gguf;
  gguf.integers["llama.attention.head_count"] = 0;
  expect_rejected(gguf, ErrorCode::kCorrupt, "head_count");
  gguf = {};
  gguf.integers.erase("llama.block_count");
  expect_rejected(gguf, ErrorCode::kCorrupt, "llama.block_count");
  gguf = {};
  gguf.integers["llama.block_count"] = 2;
  expect_rejected(gguf, ErrorCode::kNotFound, "blk.1.");
  gguf = {};
  gguf.integers["llama.feed_forward_length"] = 2;
  expect_rejected(gguf, ErrorCode::kCorrupt, "ffn_gate");
  gguf = {};
  gguf.tensors.erase(gguf.tensors.begin());
  expect_rejected(gguf, ErrorCode::kNotFound, "token_embd.weight");
}

}  // namespace
}  // namespace headrace
