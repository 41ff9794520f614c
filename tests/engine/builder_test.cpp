#include "engine/builder.h"

#include <cstring>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "codec/row_code.h"
#include "engine/engine_reader.h"
#include "engine/format.h"
#include "engine/layout.h"
#include "tests/engine/golden_engine.h"
#include "tests/support/error_matchers.h"
#include "tests/support/limited_file_system.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::NamedTensor;
using testing::read_file;
using testing::TemporaryDirectory;
using testing::TestContext;
using testing::TinyModel;

void write_file(const std::string& path, std::string_view text) {
  append_text(*posix_file_system().create(path), text);
}

/// The golden script's weights as a checkpoint.
NamedTensor golden_tensor(uint32_t number, const std::string& name, std::vector<int64_t> shape) {
  NamedTensor tensor{.name = name, .dtype = DType::kBFloat16, .shape = std::move(shape)};
  const int64_t count = tensor.shape[0] * (tensor.shape.size() == 2 ? tensor.shape[1] : 1);
  tensor.bytes.resize(static_cast<size_t>(count) * 2);
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = testing::golden_element(number, static_cast<uint32_t>(i));
    std::memcpy(tensor.bytes.data() + 2 * i, &bits, 2);
  }
  return tensor;
}

TEST(BuildEngine, WritesTheBytesOfTheIndependentWriter) {
  const TemporaryDirectory folder;
  const std::string config = read_file(testing::golden_path("engine_v1/config.json"));
  write_file(folder / "config.json", nlohmann::json::parse(config)["pretrained_config"].dump());
  testing::write_safetensors(
      folder / "rank0.safetensors",
      {golden_tensor(7, "transformer.layers.0.input_layernorm.weight", {20}),
       golden_tensor(0, "transformer.layers.0.attention.qkv.weight", {30, 20}),
       golden_tensor(9, "transformer.layers.0.attention.qkv.bias", {30}),
       golden_tensor(1, "transformer.layers.0.attention.dense.weight", {20, 18}),
       golden_tensor(8, "transformer.layers.0.post_layernorm.weight", {20}),
       golden_tensor(2, "transformer.layers.0.mlp.fc.weight", {75, 20}),
       golden_tensor(3, "transformer.layers.0.mlp.gate.weight", {75, 20}),
       golden_tensor(4, "transformer.layers.0.mlp.proj.weight", {20, 75}),
       golden_tensor(10, "transformer.ln_f.weight", {20}),
       golden_tensor(5, "lm_head.weight", {131, 20}),
       golden_tensor(6, "transformer.vocab_embedding.weight", {131, 20})});
  BuildConfig build;
  build.tile_bytes = 4096;
  TestContext test;
  const BuildReport report = build_engine(folder.path(), folder / "engine", build, test.context);
  EXPECT_EQ(read_file(folder / "engine/rank0.engine"),
            read_file(testing::golden_path("engine_v1/rank0.engine")));
  EXPECT_EQ(report.matrices, 6);
  EXPECT_EQ(report.tiles, 10);
  EXPECT_EQ(report.file_bytes, 61440u);
}

/// Payloads of a safetensors file by name, read without the program's reader.
std::map<std::string, std::string> read_tensors(const std::string& path) {
  const std::string file = read_file(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const auto header = nlohmann::json::parse(file.substr(8, length));
  std::map<std::string, std::string> tensors;
  for (const auto& [name, info] : header.items()) {
    const uint64_t begin = info["data_offsets"][0];
    const uint64_t end = info["data_offsets"][1];
    tensors[name] = file.substr(8 + length + begin, end - begin);
  }
  return tensors;
}

/// The rows of a matrix out of the engine's tiles, padding taken off.
std::string unpack(const Engine& engine, const MatrixInfo& matrix) {
  std::string packed;
  const uint64_t payload = static_cast<uint64_t>(matrix.k) * dtype_size(matrix.dtype);
  for (uint32_t i = 0; i < matrix.tile_count; ++i) {
    const TileInfo& tile = engine.manifest().tiles[matrix.first_tile + i];
    std::vector<std::byte> bytes(tile.stored_bytes);
    engine.file().read(tile.offset, bytes);
    for (size_t row = 0; row < static_cast<size_t>(tile.rows); ++row) {
      const std::byte* const stored = bytes.data() + row * tile.row_stride_bytes;
      if (tile.codec == CodecId::kRaw) {
        packed.append(reinterpret_cast<const char*>(stored), payload);
        continue;
      }
      std::vector<uint16_t> elements(static_cast<size_t>(matrix.k));
      decode_row(RowLayout::of(tile.codec, matrix.dtype, matrix.k, tile.row_stride_bytes), stored,
                 elements);
      packed.append(reinterpret_cast<const char*>(elements.data()), payload);
    }
  }
  return packed;
}

struct Shape {
  const char* name;
  TinyModel model;
};

void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }

class BuildShapes : public ::testing::TestWithParam<Shape> {};

TEST_P(BuildShapes, EveryTensorArrives) {
  const TemporaryDirectory folder;
  testing::make_tiny_engine(GetParam().model, folder.path());
  const auto tensors = read_tensors(folder / "checkpoint/rank0.safetensors");
  const Engine engine = Engine::open(posix_file_system(), folder.path());
  const ModelConfig& config = engine.model();
  const DType dtype = GetParam().model.dtype;
  EXPECT_EQ(config.dtype, dtype);

  const std::string& embedding = tensors.at("transformer.vocab_embedding.weight");
  for (const MatrixInfo& matrix : engine.manifest().matrices) {
    const bool tied = matrix.role == Role::kLmHead && config.tie_word_embeddings;
    const std::string& expected =
        tied ? embedding : tensors.at(checkpoint_name(matrix.layer, matrix.role));
    EXPECT_EQ(unpack(engine, matrix), expected) << role_name(matrix.role) << " " << matrix.layer;
  }
  for (const VectorInfo& vector : engine.manifest().vectors) {
    const std::string& expected = tensors.at(checkpoint_name(vector.layer, vector.role));
    const std::vector<std::byte> stored = testing::to_bytes(engine.read_vector(vector), dtype);
    ASSERT_EQ(stored.size(), expected.size());
    EXPECT_EQ(std::memcmp(stored.data(), expected.data(), stored.size()), 0)
        << role_name(vector.role);
  }
  if (config.tie_word_embeddings) return;  // compared as lm_head
  const size_t row_size = static_cast<size_t>(config.hidden_size) * dtype_size(dtype);
  const EmbeddingInfo& table = engine.manifest().embedding;
  std::vector<std::byte> row(row_size);
  for (size_t token = 0; token < static_cast<size_t>(config.vocab_size); ++token) {
    engine.file().read(table.offset + token * table.row_stride_bytes, row);
    ASSERT_EQ(std::memcmp(row.data(), embedding.data() + token * row_size, row_size), 0) << token;
  }
}

TinyModel shape_of(int64_t hidden, int64_t intermediate, DType dtype, uint64_t tile_bytes,
                   bool tied = false, bool biases = false) {
  TinyModel model;
  model.hidden_size = hidden;
  model.intermediate_size = intermediate;
  model.dtype = dtype;
  model.tile_bytes = tile_bytes;
  model.tie_word_embeddings = tied;
  model.qkv_bias = model.dense_bias = model.mlp_bias = biases;
  return model;
}

TinyModel coded(TinyModel model, const char* codec) {
  model.tile_codec = codec;
  return model;
}

INSTANTIATE_TEST_SUITE_P(
    All, BuildShapes,
    ::testing::Values(
        Shape{"K72And75InFloat16", shape_of(72, 75, DType::kFloat16, 16384)},
        Shape{"K72And100InFloat16Tied", shape_of(72, 100, DType::kFloat16, 1 << 20, true)},
        Shape{"K75And100InBFloat16WithBiases",
              shape_of(75, 100, DType::kBFloat16, 4096, false, true)},
        Shape{"K100And75InFloat32TiedWithBiases",
              shape_of(100, 75, DType::kFloat32, 65536, true, true)},
        Shape{"K72And576InFloat32", shape_of(72, 576, DType::kFloat32, 65536)},
        Shape{"K576And1536InFloat16Tied", shape_of(576, 1536, DType::kFloat16, 1 << 17, true)},
        Shape{"CodedInBFloat16", coded(shape_of(520, 1032, DType::kBFloat16, 1 << 17), "e4")},
        Shape{"CodedInBFloat16Tied",
              coded(shape_of(520, 1032, DType::kBFloat16, 1 << 17, true, true), "auto")},
        Shape{"CodedInFloat16", coded(shape_of(1024, 1032, DType::kFloat16, 1 << 17), "e3")},
        Shape{"TilesLargerThanMatrices", shape_of(72, 100, DType::kFloat16, 16 << 20)}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BuildEngine, WritesItsConfiguration) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint({}, folder / "checkpoint");
  BuildConfig build;
  build.max_batch_size = 3;
  build.max_input_len = 1000;
  build.weight_streaming = true;
  TestContext test;
  build_engine(folder / "checkpoint", folder / "engine", build, test.context);
  EXPECT_EQ(test.log.lines_with("--max_input_len 1000").size(), 1u);
  const auto config = nlohmann::json::parse(read_file(folder / "engine/config.json"));
  EXPECT_TRUE(config["version"].is_string());
  EXPECT_EQ(config["pretrained_config"]["architecture"], "LlamaForCausalLM");
  EXPECT_EQ(config["pretrained_config"]["hidden_size"], 72);
  EXPECT_EQ(config["build_config"]["max_batch_size"], 3);
  EXPECT_EQ(config["build_config"]["max_seq_len"], 256);
  EXPECT_EQ(config["build_config"]["max_input_len"], 256);
  EXPECT_EQ(config["build_config"]["weight_streaming"], true);
  EXPECT_EQ(config["build_config"]["plugin_config"]["gemm_plugin"], "disable");
}

/// Bytes that an engine's tiles take in its file.
uint64_t pages_of_tiles(const std::string& directory) {
  const Engine engine = Engine::open(posix_file_system(), directory);
  uint64_t bytes = 0;
  for (const TileInfo& tile : engine.manifest().tiles) {
    bytes += align_up(tile.stored_bytes, kPageBytes);
  }
  return bytes;
}

TEST(BuildEngine, SaysWhatEachCodecAloneWouldTake) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint(shape_of(520, 1032, DType::kBFloat16, 1 << 17),
                                folder / "checkpoint");
  TestContext test;
  std::map<std::string, double> alone;
  double raw = 0;
  for (const std::string codec : {"none", "e3", "e4"}) {
    BuildConfig build;
    build.tile_codec = codec;
    const BuildReport report =
        build_engine(folder / "checkpoint", folder / codec, build, test.context);
    const auto bytes = static_cast<double>(pages_of_tiles(folder / codec));
    if (codec == "none") {
      EXPECT_TRUE(report.codec_shares.empty());
      raw = bytes;
    } else {
      alone[codec] = bytes / raw;
      EXPECT_EQ(report.codec_shares, (std::map<std::string, double>{{codec, bytes / raw}}));
    }
  }
  EXPECT_LT(alone["e3"], alone["e4"]);
  EXPECT_LT(alone["e4"], 1);
  BuildConfig build;
  build.tile_codec = "auto";
  EXPECT_EQ(build_engine(folder / "checkpoint", folder / "auto", build, test.context).codec_shares,
            alone);
}

TEST(BuildEngine, CopiesWhatCameWithTheModel) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint({}, folder / "checkpoint");
  write_file(folder / "checkpoint/tokenizer.json", "{\"model\": 1}");
  write_file(folder / "checkpoint/generation_config.json", "{}");
  TestContext test;
  build_engine(folder / "checkpoint", folder / "engine", {}, test.context);
  EXPECT_EQ(read_file(folder / "engine/tokenizer.json"), "{\"model\": 1}");
  EXPECT_EQ(posix_file_system().list(folder / "engine"),
            (std::vector<std::string>{"config.json", "generation_config.json", "rank0.engine",
                                      "tokenizer.json"}));
}

TEST(BuildEngine, IsTheSameTwice) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint({}, folder / "checkpoint");
  TestContext one(1);
  TestContext two(2);
  build_engine(folder / "checkpoint", folder / "a", {}, one.context);
  build_engine(folder / "checkpoint", folder / "b", {}, two.context);
  build_engine(folder / "checkpoint", folder / "b", {}, two.context);  // over an older one
  EXPECT_EQ(read_file(folder / "a/rank0.engine"), read_file(folder / "b/rank0.engine"));
  EXPECT_EQ(read_file(folder / "a/config.json"), read_file(folder / "b/config.json"));
}

TEST(BuildEngine, LeavesNothingOnAFullDisk) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint({}, folder / "checkpoint");
  for (const uint64_t limit : {0u, 5000u, 100000u, 400000u}) {
    testing::LimitedFileSystem disk(limit);
    TestContext test(1, disk);
    expect_error(ErrorCode::kIo, "No space left", [&] {
      build_engine(folder / "checkpoint", folder / "new/engine", {}, test.context);
    });
    EXPECT_FALSE(posix_file_system().exists(folder / "new")) << limit;
  }
}

TEST(BuildEngine, LeavesAnOlderEngineAloneOnAFullDisk) {
  const TemporaryDirectory folder;
  testing::make_tiny_checkpoint({}, folder / "checkpoint");
  TestContext test;
  build_engine(folder / "checkpoint", folder / "engine", {}, test.context);
  const std::string before = read_file(folder / "engine/rank0.engine");
  testing::LimitedFileSystem disk(100000);
  TestContext full(1, disk);
  EXPECT_THROW(build_engine(folder / "checkpoint", folder / "engine", {}, full.context), Error);
  EXPECT_EQ(read_file(folder / "engine/rank0.engine"), before);
  EXPECT_NO_THROW(Engine::open(posix_file_system(), folder / "engine"));
  EXPECT_EQ(posix_file_system().list(folder / "engine").size(), 2u);
}

/// Rewrites one tensor of a tiny checkpoint, or leaves it out if `change` says so.
template <typename F>
void change_checkpoint(const std::string& directory, F change) {
  const ModelConfig config = testing::tiny_config({});
  const auto payloads = read_tensors(join_path(directory, "rank0.safetensors"));
  std::vector<NamedTensor> tensors;
  const auto add = [&](const TensorSpec& spec) {
    NamedTensor tensor{.name = checkpoint_name(spec.layer, spec.role), .dtype = config.dtype};
    tensor.shape = {spec.rows};
    if (spec.k != 0) tensor.shape.push_back(spec.k);
    const std::string& payload = payloads.at(tensor.name);
    tensor.bytes.resize(payload.size());
    std::memcpy(tensor.bytes.data(), payload.data(), payload.size());
    if (change(tensor)) tensors.push_back(std::move(tensor));
  };
  add({.role = Role::kEmbedding, .rows = config.vocab_size, .k = config.hidden_size});
  for (int64_t i = 0; i < matrix_count(config); ++i) add(matrix_spec(config, i));
  for (int64_t i = 0; i < vector_count(config); ++i) add(vector_spec(config, i));
  testing::write_safetensors(join_path(directory, "rank0.safetensors"), tensors);
}

TEST(BuildEngine, NamesATensorThatIsMissingOrWrong) {
  const TemporaryDirectory folder;
  const std::string name = "transformer.layers.1.mlp.fc.weight";
  const auto expect_failure = [&](auto change) {
    testing::make_tiny_checkpoint({}, folder / "checkpoint");
    change_checkpoint(folder / "checkpoint",
                      [&](NamedTensor& tensor) { return tensor.name != name || change(tensor); });
    TestContext test;
    try {
      build_engine(folder / "checkpoint", folder / "engine", {}, test.context);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
    EXPECT_FALSE(posix_file_system().exists(folder / "engine"));
  };
  expect_failure([](NamedTensor&) { return false; });
  expect_failure([](NamedTensor& tensor) {
    std::swap(tensor.shape[0], tensor.shape[1]);
    return true;
  });
  expect_failure([](NamedTensor& tensor) {
    tensor.dtype = DType::kBFloat16;
    return true;
  });
  expect_failure([](NamedTensor& tensor) {
    tensor.shape = {tensor.shape[0] * tensor.shape[1]};
    return true;
  });
}

TEST(BuildEngine, RefusesAFolderThatIsNoCheckpoint) {
  const TemporaryDirectory folder;
  TestContext test;
  EXPECT_THROW(build_engine(folder / "nothing", folder / "engine", {}, test.context), Error);
  EXPECT_THROW(build_engine(folder.path(), folder / "engine", {}, test.context), Error);
  EXPECT_FALSE(posix_file_system().exists(folder / "engine"));
}

}  // namespace
}  // namespace headrace
