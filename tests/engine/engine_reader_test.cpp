#include "engine/engine_reader.h"

#include <bit>
#include <filesystem>

#include <gtest/gtest.h>

#include "tests/engine/golden_engine.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::golden_element;
using testing::TemporaryDirectory;

/// A copy of the golden engine that a test may damage.
class GoldenCopy {
 public:
  GoldenCopy() {
    for (const char* name : {"config.json", "rank0.engine"}) {
      std::filesystem::copy_file(testing::golden_path(std::string("engine_v1/") + name),
                                 folder_ / name);
    }
  }
  const std::string& path() const { return folder_.path(); }
  Engine open() const { return Engine::open(posix_file_system(), folder_.path()); }
  void flip(uint64_t offset) const {
    std::string file = testing::read_file(folder_ / "rank0.engine");
    file.at(offset) = static_cast<char>(file.at(offset) ^ 1);
    write("rank0.engine", file);
  }
  void write(std::string_view name, std::string_view text) const {
    append_text(*posix_file_system().create(folder_ / name), text);
  }

 private:
  TemporaryDirectory folder_;
};

TEST(Engine, OpensTheGoldenEngine) {
  const Engine engine = Engine::open(posix_file_system(), testing::golden_path("engine_v1"));
  EXPECT_EQ(engine.version(), "golden");
  EXPECT_EQ(engine.model().hidden_size, 20);
  EXPECT_EQ(engine.model().dtype, DType::kBFloat16);
  EXPECT_TRUE(engine.model().qkv_bias);
  EXPECT_EQ(engine.build().max_seq_len, 64);
  EXPECT_TRUE(engine.build().weight_streaming);
  EXPECT_EQ(engine.weights_path(), testing::golden_path("engine_v1/rank0.engine"));
  EXPECT_EQ(engine.file().size(), engine.manifest().file_bytes);
}

TEST(Engine, ReadsVectors) {
  const Engine engine = GoldenCopy().open();
  const VectorInfo* bias = engine.manifest().find_vector(0, Role::kQkvBias);
  ASSERT_NE(bias, nullptr);
  const std::vector<float> values = engine.read_vector(*bias);
  ASSERT_EQ(values.size(), 30u);
  for (uint32_t i = 0; i < 30; ++i) {  // the script's tensor 9
    EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), uint32_t{golden_element(9, i)} << 16) << i;
  }
}

TEST(Engine, ADamagedVectorIsNoticedWhenRead) {
  const GoldenCopy copy;
  const Manifest manifest = copy.open().manifest();
  copy.flip(manifest.vectors[0].offset + 3);
  const Engine engine = copy.open();
  expect_error(ErrorCode::kCorrupt, "layer 0 input_norm",
               [&] { engine.read_vector(manifest.vectors[0]); });
  EXPECT_NO_THROW(engine.read_vector(manifest.vectors[1]));
}

TEST(Engine, RefusesEveryTruncation) {
  const GoldenCopy copy;
  const std::string whole = testing::read_file(copy.path() + "/rank0.engine");
  for (const size_t length : {0u, 1u, 63u, 64u, 4096u, 30000u, 57344u, 61439u}) {
    copy.write("rank0.engine", std::string_view(whole).substr(0, length));
    EXPECT_THROW(copy.open(), Error) << length;
  }
  copy.write("rank0.engine", whole + "x");
  expect_error(ErrorCode::kCorrupt, "truncated?", [&] { copy.open(); });
}

TEST(Engine, RefusesADamagedManifest) {
  const GoldenCopy copy;
  const testing::GoldenEngine golden;
  copy.flip(golden.header.manifest_offset + 70);
  expect_error(ErrorCode::kCorrupt, "damaged manifest", [&] { copy.open(); });
}

TEST(Engine, RefusesAConfigurationOfAnotherModel) {
  const GoldenCopy copy;
  std::string config = testing::read_file(copy.path() + "/config.json");
  const std::string from = "\"intermediate_size\": 75";
  config.replace(config.find(from), from.size(), "\"intermediate_size\": 76");
  copy.write("config.json", config);
  expect_error(ErrorCode::kCorrupt, "fc [75, 20]", [&] { copy.open(); });
}

TEST(Engine, RefusesBrokenConfigurations) {
  const GoldenCopy copy;
  for (const char* text :
       {"", "{", "[]", "null", "{\"pretrained_config\": 3}", "{\"pretrained_config\": {}}"}) {
    copy.write("config.json", text);
    EXPECT_THROW(copy.open(), Error) << text;
  }
  copy.write("config.json", std::string(1000000, '['));
  EXPECT_THROW(copy.open(), Error);
}

TEST(Engine, NamesWhatDoesNotExist) {
  expect_error(ErrorCode::kNotFound, "File does not exist",
               [] { Engine::open(posix_file_system(), "/nowhere/at/all"); });
}

TEST(TileName, SaysWhereATileIs) {
  const Manifest manifest = testing::GoldenEngine().manifest();
  EXPECT_EQ(tile_name(manifest, 2), "tile 2 (layer 0 fc, rows 0 to 63)");
  EXPECT_EQ(tile_name(manifest, 9), "tile 9 (lm_head, rows 128 to 130)");
}

}  // namespace
}  // namespace headrace
