#include "engine/format.h"

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

TEST(RowsPerTile, FollowsTheDocumentedRule) {
  constexpr uint64_t kMiB = 1 << 20;
  // Worked by hand from docs/engine-format.md.
  EXPECT_EQ(rows_per_tile(576, DType::kFloat16, kMiB), 14 * 64);   // 64 rows are 18 pages
  EXPECT_EQ(rows_per_tile(4096, DType::kBFloat16, kMiB), 2 * 64);  // 64 rows are 512 KiB
  EXPECT_EQ(rows_per_tile(11008, DType::kFloat16, kMiB), 64);      // 64 rows exceed 1 MiB
  EXPECT_EQ(rows_per_tile(72, DType::kFloat16, kMiB), 28 * 256);   // 256 rows are 9 pages
  EXPECT_EQ(rows_per_tile(72, DType::kFloat16, 16384), 64);        // 256 rows exceed 16 KiB
  EXPECT_EQ(rows_per_tile(75, DType::kFloat16, kMiB), 51 * 128);   // 128 rows are 5 pages
  EXPECT_EQ(rows_per_tile(100, DType::kFloat32, kMiB), 10 * 256);  // 256 rows are 25 pages
  EXPECT_EQ(rows_per_tile(1, DType::kFloat32, kMiB), 65536);       // 256 rows are one page
  EXPECT_EQ(rows_per_tile(576, DType::kFloat16, 1), 64);
}

TEST(Strides, ArePaddedTo16Bytes) {
  EXPECT_EQ(row_stride_bytes(72, DType::kFloat16), 144u);
  EXPECT_EQ(row_stride_bytes(75, DType::kFloat16), 160u);
  EXPECT_EQ(row_stride_bytes(75, DType::kFloat32), 304u);
  EXPECT_EQ(row_stride_bytes(100, DType::kBFloat16), 208u);
  EXPECT_EQ(embedding_stride_bytes(72, DType::kFloat16), 160u);  // 144 + 8, rounded up
  EXPECT_EQ(embedding_stride_bytes(76, DType::kFloat16), 160u);  // 152 + 8 exactly
}

constexpr FileHeader kHeader{.manifest_offset = 8192,
                             .manifest_bytes = 100,
                             .manifest_xxh3 = 0x0123456789abcdef,
                             .file_bytes = 12288};

TEST(Header, SurvivesARoundTrip) {
  const FileHeader read = parse_header(serialize_header(kHeader), 12288, "f");
  EXPECT_EQ(read.manifest_offset, 8192u);
  EXPECT_EQ(read.manifest_bytes, 100u);
  EXPECT_EQ(read.manifest_xxh3, 0x0123456789abcdefu);
  EXPECT_EQ(read.file_bytes, 12288u);
}

TEST(Header, EveryFlippedBitIsNoticed) {
  for (size_t i = 0; i < FileHeader::kBytes; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      auto bytes = serialize_header(kHeader);
      bytes[i] ^= static_cast<std::byte>(1 << bit);
      EXPECT_THROW(parse_header(bytes, 12288, "f"), Error) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(Header, ForgedNumbersAreRefused) {
  const auto parse = [](FileHeader header, uint64_t file_bytes) {
    parse_header(serialize_header(header), file_bytes, "the file");
  };
  expect_error(ErrorCode::kCorrupt, "truncated?", [&] { parse(kHeader, 8192); });
  FileHeader header = kHeader;
  header.manifest_offset = 16384;
  expect_error(ErrorCode::kCorrupt, "places its manifest", [&] { parse(header, 12288); });
  header = kHeader;
  header.manifest_offset = 0;
  expect_error(ErrorCode::kCorrupt, "places its manifest", [&] { parse(header, 12288); });
  header = kHeader;
  header.manifest_bytes = 4097;
  expect_error(ErrorCode::kCorrupt, "places its manifest", [&] { parse(header, 12288); });
  header.manifest_bytes = ~uint64_t{0};
  expect_error(ErrorCode::kCorrupt, "places its manifest", [&] { parse(header, 12288); });
  header = kHeader;
  header.file_bytes = 12289;
  expect_error(ErrorCode::kCorrupt, "places its manifest", [&] { parse(header, 12289); });
}

}  // namespace
}  // namespace headrace
