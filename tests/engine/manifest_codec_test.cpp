#include "engine/manifest_codec.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/engine/golden_engine.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::GoldenEngine;

TEST(ManifestCodec, ReadsTheGoldenEngine) {
  const Manifest manifest = GoldenEngine().manifest();
  ASSERT_EQ(manifest.matrices.size(), 6u);
  EXPECT_EQ(manifest.matrices[0].role, Role::kQkv);
  EXPECT_EQ(manifest.matrices[0].layer, 0);
  EXPECT_EQ(manifest.matrices[0].rows, 30);  // (3 + 2) heads of 6
  EXPECT_EQ(manifest.matrices[0].k, 20);
  EXPECT_EQ(manifest.matrices[1].k, 18);
  EXPECT_EQ(manifest.matrices[4].k, 75);
  EXPECT_EQ(manifest.matrices[5].role, Role::kLmHead);
  EXPECT_EQ(manifest.matrices[5].layer, -1);
  EXPECT_EQ(manifest.matrices[5].rows, 131);
  EXPECT_EQ(manifest.matrices[5].dtype, DType::kBFloat16);
  // Rows of 48 bytes: 64 rows are 3072 bytes, three tiles, each on a page of its own.
  ASSERT_EQ(manifest.matrices[5].tile_count, 3u);
  const TileInfo& last = manifest.tiles.back();
  EXPECT_EQ(last.matrix, 5u);
  EXPECT_EQ(last.row_begin, 128);
  EXPECT_EQ(last.rows, 3);
  EXPECT_EQ(last.row_stride_bytes, 48u);
  EXPECT_EQ(last.raw_bytes, 3u * 40);
  EXPECT_EQ(last.stored_bytes, 3u * 48);
  EXPECT_EQ(manifest.tile_bytes, 4096u);
  EXPECT_EQ(manifest.file_bytes, 61440u);
  EXPECT_FALSE(manifest.embedding.tied);
  EXPECT_EQ(manifest.embedding.row_stride_bytes, 48u);  // 40 + 8
  ASSERT_EQ(manifest.vectors.size(), 4u);
  EXPECT_EQ(manifest.vectors[2].role, Role::kQkvBias);
  EXPECT_EQ(manifest.vectors[2].count, 30);
}

TEST(ManifestCodec, WritesTheBytesThatItRead) {
  const GoldenEngine golden;
  EXPECT_EQ(serialize_manifest(golden.manifest()), golden.manifest_bytes());
}

TEST(ManifestCodec, CodecParametersSurvive) {
  // No codec of this version has any; the pool alone does.
  Manifest manifest = GoldenEngine().manifest();
  manifest.codec_parameters = {std::byte{1}, std::byte{2}, std::byte{3}};
  const Manifest read = GoldenEngine().parse_forged(serialize_manifest(manifest));
  EXPECT_EQ(read.codec_parameters, manifest.codec_parameters);
}

TEST(ManifestCodec, RefusesEveryTruncation) {
  const GoldenEngine golden;
  const auto bytes = golden.manifest_bytes();
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(golden.parse_forged(std::span(bytes).first(length)), Error) << length;
  }
}

TEST(ManifestCodec, RefusesCountsThatItsBytesCannotHold) {
  const GoldenEngine golden;
  for (const size_t at : {0u, 4u, 8u, 12u}) {
    auto bytes = golden.manifest_bytes();
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), 4, std::byte{0xff});
    expect_error(ErrorCode::kCorrupt, "cannot hold", [&] { golden.parse_forged(bytes); });
  }
}

TEST(ManifestCodec, RefusesAWrongHash) {
  const GoldenEngine golden;
  auto bytes = golden.manifest_bytes();
  bytes[100] ^= std::byte{1};
  expect_error(ErrorCode::kCorrupt, "damaged manifest",
               [&] { parse_manifest(bytes, golden.header, "f"); });
}

/// What users of a manifest rely on, worked out in another way than check_manifest does: every byte
/// of the file belongs to at most one thing.
bool is_trustworthy(const Manifest& manifest, const FileHeader& header) {
  std::vector<uint8_t> used(manifest.file_bytes);
  bool sound = true;
  const auto claim = [&](uint64_t offset, uint64_t bytes) {
    for (uint64_t i = offset; i < offset + bytes && sound; ++i) {
      sound = i < used.size() && used[i] == 0;
      if (sound) used[i] = 1;
    }
  };
  claim(0, FileHeader::kBytes);
  claim(header.manifest_offset, header.manifest_bytes);
  size_t next_tile = 0;
  for (const MatrixInfo& matrix : manifest.matrices) {
    int64_t next_row = 0;
    sound = sound && matrix.first_tile == next_tile && matrix.tile_count > 0;
    for (uint32_t t = 0; sound && t < matrix.tile_count; ++t) {
      const TileInfo& tile = manifest.tiles.at(next_tile++);
      sound = tile.row_begin == next_row && tile.rows > 0 && tile.offset % 4096 == 0 &&
              tile.row_stride_bytes % 16 == 0 &&
              tile.row_stride_bytes * static_cast<uint64_t>(tile.rows) == tile.stored_bytes &&
              tile.raw_bytes <= tile.stored_bytes;
      next_row += tile.rows;
      claim(tile.offset, tile.stored_bytes);
      if (t + 1 == matrix.tile_count) claim(tile.offset + tile.stored_bytes, 64);
    }
    sound = sound && next_row == matrix.rows;
  }
  for (const VectorInfo& vector : manifest.vectors) {
    claim(vector.offset, static_cast<uint64_t>(vector.count) * 4);
  }
  if (!manifest.embedding.tied) {
    claim(manifest.embedding.offset, static_cast<uint64_t>(manifest.matrices.back().rows) *
                                         manifest.embedding.row_stride_bytes);
  }
  return sound && next_tile == manifest.tiles.size();
}

/// Parses forged bytes; they are refused, or what comes out can be trusted and says what they say.
bool is_refused_or_sound(const GoldenEngine& golden, const std::vector<std::byte>& bytes) {
  try {
    const Manifest manifest = golden.parse_forged(bytes);
    FileHeader header = golden.header;
    header.manifest_bytes = bytes.size();
    return is_trustworthy(manifest, header) && serialize_manifest(manifest) == bytes;
  } catch (const Error&) {
    return true;
  }
}

TEST(ManifestCodec, EveryChangedByteIsRefusedOrHarmless) {
  const GoldenEngine golden;
  ASSERT_TRUE(is_trustworthy(golden.manifest(), golden.header));
  const auto bytes = golden.manifest_bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x02, 0x04, 0x10, 0x40, 0x80, 0xff}) {
      auto forged = bytes;
      forged[i] ^= static_cast<std::byte>(flip);
      ASSERT_TRUE(is_refused_or_sound(golden, forged)) << "byte " << i << " flip " << flip;
    }
  }
}

RC_GTEST_PROP(ManifestCodec, ManyChangedBytesAreRefusedOrHarmless, ()) {
  const GoldenEngine golden;
  auto bytes = golden.manifest_bytes();
  const auto changes = *rc::gen::container<std::vector<std::pair<uint32_t, uint8_t>>>(
      rc::gen::pair(rc::gen::inRange<uint32_t>(0, static_cast<uint32_t>(bytes.size())),
                    rc::gen::arbitrary<uint8_t>()));
  for (const auto& [at, value] : changes) bytes[at] = static_cast<std::byte>(value);
  RC_ASSERT(is_refused_or_sound(golden, bytes));
}

}  // namespace
}  // namespace headrace
