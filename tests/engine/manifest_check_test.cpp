#include "engine/manifest_check.h"

#include <functional>

#include <gtest/gtest.h>

#include "tests/engine/golden_engine.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::GoldenEngine;

/// One way to break the golden manifest, and what the error must say about it. The golden engine's
/// tiles: 0 qkv, 1 dense, 2 and 3 fc, 4 and 5 gate, 6 proj, 7 to 9 lm_head.
struct Breakage {
  const char* name;
  std::function<void(Manifest&)> apply;
  const char* message;
  ErrorCode code = ErrorCode::kCorrupt;
};

void PrintTo(const Breakage& breakage, std::ostream* out) { *out << breakage.name; }

class CheckManifest : public ::testing::TestWithParam<Breakage> {};

TEST_P(CheckManifest, RefusesIt) {
  const GoldenEngine golden;
  Manifest manifest = golden.manifest();
  check_manifest(manifest, golden.header, "f");
  GetParam().apply(manifest);
  expect_error(GetParam().code, GetParam().message,
               [&] { check_manifest(manifest, golden.header, "f"); });
}

INSTANTIATE_TEST_SUITE_P(
    All, CheckManifest,
    ::testing::Values(
        Breakage{"OffsetPastTheEnd", [](Manifest& m) { m.tiles[0].offset = 61440 + 4096; },
                 "tile 0 lies at byte"},
        Breakage{"OffsetThatOverflows", [](Manifest& m) { m.tiles[0].offset = ~uint64_t{4095}; },
                 "tile 0 lies at byte"},
        Breakage{"OffsetOffPage", [](Manifest& m) { m.tiles[0].offset += 16; },
                 "tile 0 lies at byte"},
        Breakage{"TileOverTheHeader", [](Manifest& m) { m.tiles[0].offset = 0; }, "overlap"},
        Breakage{"TileNotBesideItsNeighbour", [](Manifest& m) { m.tiles[9].offset += 4096; },
                 "tile 9 does not follow"},
        Breakage{"MatricesOutOfOrder",
                 [](Manifest& m) { std::swap(m.tiles[0].offset, m.tiles[1].offset); },
                 "before its neighbour"},
        Breakage{"RowsMissing",
                 [](Manifest& m) {
                   m.tiles[9].rows = 2;
                   m.tiles[9].stored_bytes = 2 * 48;
                 },
                 "cover 130 of 131 rows"},
        Breakage{"TooManyRows", [](Manifest& m) { m.tiles[9].rows = 4; }, "tile 9 holds 4 rows"},
        Breakage{"NoRows", [](Manifest& m) { m.tiles[0].rows = 0; }, "tile 0 holds 0 rows"},
        Breakage{"RowsTwice", [](Manifest& m) { m.tiles[8].row_begin = 0; },
                 "tile 8 holds 64 rows from 0 on"},
        Breakage{"NotAMultipleOf64", [](Manifest& m) { m.tiles[7].rows = 63; },
                 "tile 7 holds 63 rows"},
        Breakage{"StrideTooSmall",
                 [](Manifest& m) {
                   m.tiles[0].row_stride_bytes = 32;
                   m.tiles[0].stored_bytes = 30 * 32;
                 },
                 "tile 0 has a row stride of 32"},
        Breakage{"StrideUnaligned", [](Manifest& m) { m.tiles[0].row_stride_bytes = 50; },
                 "tile 0 has a row stride of 50"},
        Breakage{"StrideChanges",
                 [](Manifest& m) {
                   m.tiles[9].row_stride_bytes = 64;
                   m.tiles[9].stored_bytes = 3 * 64;
                 },
                 "tile 9 has another codec or row stride"},
        Breakage{"StoredBytesForged", [](Manifest& m) { m.tiles[0].stored_bytes += 48; },
                 "tile 0 stores"},
        Breakage{"UnknownCodec", [](Manifest& m) { m.tiles[3].codec = static_cast<CodecId>(7); },
                 "tile 3 has codec 7", ErrorCode::kUnsupported},
        Breakage{"UnknownCodecVersion", [](Manifest& m) { m.tiles[3].codec_version = 1; },
                 "tile 3 has codec 0 version 1", ErrorCode::kUnsupported},
        Breakage{"CodedWithoutRoom",
                 [](Manifest& m) {
                   m.tiles[3].codec = CodecId::kE3;
                   m.tiles[3].codec_version = 1;
                 },
                 "tile 3 has a row stride of"},
        Breakage{"RawWithParameters", [](Manifest& m) { m.tiles[3].parameters_size = 1; },
                 "tile 3 has codec parameters"},
        Breakage{"Expert", [](Manifest& m) { m.matrices[1].expert = 0; }, "expert 0",
                 ErrorCode::kUnsupported},
        Breakage{"LastIsNotLmHead", [](Manifest& m) { m.matrices.back().role = Role::kProj; },
                 "not lm_head"},
        Breakage{"VectorPastTheEnd", [](Manifest& m) { m.vectors[0].offset = ~uint64_t{15}; },
                 "vector 0 lies at"},
        Breakage{"VectorUnaligned", [](Manifest& m) { m.vectors[0].offset += 4; },
                 "vector 0 lies at"},
        Breakage{"VectorsOverlap",
                 [](Manifest& m) { m.vectors[1].offset = m.vectors[0].offset + 64; }, "overlap"},
        Breakage{"VectorInATile", [](Manifest& m) { m.vectors[1].offset = m.tiles[2].offset; },
                 "overlap"},
        Breakage{"VectorInATail",
                 [](Manifest& m) {
                   m.vectors[1].offset = m.tiles[0].offset + m.tiles[0].stored_bytes + 32;
                 },
                 "overlap"},
        Breakage{"EmbeddingPastTheEnd", [](Manifest& m) { m.embedding.offset = 61440; },
                 "the embedding lies at"},
        Breakage{"EmbeddingStride", [](Manifest& m) { m.embedding.row_stride_bytes = 32; },
                 "embedding has a row stride"},
        Breakage{"TiedWithAPlace", [](Manifest& m) { m.embedding.tied = true; },
                 "tied and has a place"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CheckManifestTail, SixtyFourBytesMustFollowTheLastMatrix) {
  const GoldenEngine golden;
  Manifest manifest = golden.manifest();
  manifest.vectors.clear();
  manifest.embedding = {.tied = true};
  // The last tile's 144 bytes end with the file but for 48.
  manifest.file_bytes = manifest.tiles.back().offset + 192;
  FileHeader header = golden.header;
  header.manifest_offset = 4096 + 2048;  // behind tile 0's rows and tail
  header.manifest_bytes = 16;
  expect_error(ErrorCode::kCorrupt, "fewer than 64 bytes",
               [&] { check_manifest(manifest, header, "f"); });
}

ModelConfig golden_config() {
  ModelConfig config;
  config.dtype = DType::kBFloat16;
  config.vocab_size = 131;
  config.max_position_embeddings = 64;
  config.hidden_size = 20;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  config.head_size = 6;
  config.intermediate_size = 75;
  config.qkv_bias = true;
  return config;
}

struct Mismatch {
  const char* name;
  std::function<void(ModelConfig&)> apply;
  const char* message;
};

void PrintTo(const Mismatch& mismatch, std::ostream* out) { *out << mismatch.name; }

class ValidateManifest : public ::testing::TestWithParam<Mismatch> {};

TEST_P(ValidateManifest, NamesTheFirstDifference) {
  const Manifest manifest = GoldenEngine().manifest();
  ModelConfig config = golden_config();
  validate_manifest(manifest, config, "f");
  GetParam().apply(config);
  expect_error(ErrorCode::kCorrupt, GetParam().message,
               [&] { validate_manifest(manifest, config, "f"); });
}

INSTANTIATE_TEST_SUITE_P(
    All, ValidateManifest,
    ::testing::Values(
        Mismatch{"Dtype", [](ModelConfig& c) { c.dtype = DType::kFloat16; }, "float16"},
        Mismatch{"Heads", [](ModelConfig& c) { c.num_attention_heads = 4; },
                 "layer 0 qkv [30, 20]"},
        Mismatch{"Vocabulary", [](ModelConfig& c) { c.vocab_size = 130; }, "lm_head [131, 20]"},
        Mismatch{"Width", [](ModelConfig& c) { c.intermediate_size = 80; }, "layer 0 fc [75, 20]"},
        Mismatch{"Layers", [](ModelConfig& c) { c.num_hidden_layers = 2; }, "6 matrices"},
        Mismatch{"ForgedLayers", [](ModelConfig& c) { c.num_hidden_layers = int64_t{1} << 31; },
                 "6 matrices"},
        Mismatch{"NoBias", [](ModelConfig& c) { c.qkv_bias = false; }, "4 vectors"},
        Mismatch{"OtherBias",
                 [](ModelConfig& c) {
                   c.qkv_bias = false;
                   c.dense_bias = true;
                 },
                 "vector 2 is layer 0 qkv_bias [30]"},
        Mismatch{"Tied", [](ModelConfig& c) { c.tie_word_embeddings = true; }, "tied"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace headrace
