#include "engine/manifest_layout.h"

#include <gtest/gtest.h>

#include "engine/engine_reader.h"
#include "engine/manifest_codec.h"
#include "tests/engine/golden_engine.h"
#include "tests/support/error_matchers.h"
#include "tests/support/tiny_engine.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::GoldenEngine;

TEST(ManifestLayout, IsThatOfTheIndependentWriter) {
  const Engine engine = Engine::open(posix_file_system(), testing::golden_path("engine_v1"));
  Manifest expected = engine.manifest();
  for (TileInfo& tile : expected.tiles) tile.xxh3 = 0;
  for (VectorInfo& vector : expected.vectors) vector.xxh3 = 0;
  const Manifest manifest = lay_out_manifest(engine.model(), engine.build().tile_bytes);
  EXPECT_EQ(serialize_manifest(manifest), serialize_manifest(expected));
  EXPECT_EQ(manifest.file_bytes, expected.file_bytes);
  EXPECT_EQ(manifest_bytes(/*matrices=*/6, /*tiles=*/10, /*vectors=*/4, /*parameter_bytes=*/0),
            GoldenEngine().header.manifest_bytes);
}

TEST(ManifestLayout, MoreTilesThanAManifestListsAreAnError) {
  // 64 rows of 16 bytes are a tile, so 2^31 rows are 33 million of 48 bytes.
  ModelConfig model = testing::tiny_config({.hidden_size = 8, .num_hidden_layers = 1});
  model.vocab_size = int64_t{1} << 31;
  expect_error(ErrorCode::kInvalidArgument, "use a larger --tile_bytes",
               [&] { lay_out_manifest(model, 1024); });
}

}  // namespace
}  // namespace headrace
