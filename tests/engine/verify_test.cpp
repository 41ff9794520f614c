#include "engine/verify.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/support/forged_engine.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::TemporaryDirectory;
using testing::TestContext;

TEST(VerifyEngine, FindsNothingInAWholeEngine) {
  TestContext test;
  const Engine engine = Engine::open(posix_file_system(), testing::golden_path("engine_v1"));
  EXPECT_TRUE(verify_engine(engine, test.context).empty());
}

TEST(VerifyEngine, NamesEveryDamagedPart) {
  const TemporaryDirectory folder;
  std::filesystem::copy_file(testing::golden_path("engine_v1/config.json"), folder / "config.json");
  std::string file = testing::read_file(testing::golden_path("engine_v1/rank0.engine"));
  const Engine whole = Engine::open(posix_file_system(), testing::golden_path("engine_v1"));
  const Manifest& manifest = whole.manifest();
  const auto flip = [&](uint64_t offset) { file.at(offset) = static_cast<char>(file[offset] ^ 4); };
  flip(manifest.tiles[3].offset);                                       // its first byte
  flip(manifest.tiles[9].offset + manifest.tiles[9].stored_bytes - 1);  // padding counts
  flip(manifest.embedding.offset + 130 * manifest.embedding.row_stride_bytes + 39);
  flip(manifest.vectors[2].offset + 119);
  append_text(*posix_file_system().create(folder / "rank0.engine"), file);
  TestContext test;
  EXPECT_EQ(verify_engine(Engine::open(posix_file_system(), folder.path()), test.context),
            (std::vector<std::string>{"tile 3 (layer 0 fc, rows 64 to 74)",
                                      "tile 9 (lm_head, rows 128 to 130)", "embedding row 130",
                                      "layer 0 qkv_bias"}));
}

TEST(VerifyEngine, NamesATileWhoseChecksumIsRightAndWhoseEscapesHaveNoRoom) {
  const TemporaryDirectory folder;
  testing::TinyModel shape;
  shape.hidden_size = 1024;  // long enough for codes to pay
  shape.num_hidden_layers = 1;
  shape.tile_codec = "e3";
  const std::string path = testing::make_tiny_engine(shape, folder / "engine");
  TestContext test;
  EXPECT_TRUE(verify_engine(Engine::open(posix_file_system(), path), test.context).empty());
  const uint32_t tile = testing::forge_escapes(path);
  const Engine engine = Engine::open(posix_file_system(), path);
  EXPECT_EQ(verify_engine(engine, test.context),
            std::vector<std::string>{tile_name(engine.manifest(), tile) +
                                     ": rows with more escapes than room"});
}

}  // namespace
}  // namespace headrace
