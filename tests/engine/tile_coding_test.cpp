#include "engine/tile_coding.h"

#include <random>

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "codec/row_code.h"
#include "engine/format.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

constexpr int64_t kK = 1024;

/// Rows with exponents from a range of `kinds`, all alike often.
std::vector<uint16_t> rows_of(int64_t rows, uint32_t kinds, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> elements(static_cast<size_t>(rows * kK));
  for (uint16_t& bits : elements) {
    const uint32_t noise = static_cast<uint32_t>(random());
    bits = static_cast<uint16_t>((noise & 0x807fu) | (100 + (noise >> 16) % kinds) << 7);
  }
  return elements;
}

CodingChoice look_at(const std::vector<CodecId>& codecs, const std::vector<uint16_t>& elements,
                     int64_t tile_rows) {
  ThreadPool pool(2);
  const auto rows = static_cast<int64_t>(elements.size()) / kK;
  CodingChoice choice(codecs, DType::kBFloat16, rows, kK, tile_rows);
  const auto bytes = std::as_bytes(std::span(elements));
  choice.add_rows(0, bytes.first(static_cast<size_t>(rows / 2 * kK) * 2), pool);
  choice.add_rows(rows / 2, bytes.subspan(static_cast<size_t>(rows / 2 * kK) * 2), pool);
  return choice;
}

MatrixCoding choose(const std::vector<CodecId>& codecs, const std::vector<uint16_t>& elements,
                    int64_t tile_rows) {
  return look_at(codecs, elements, tile_rows).choose();
}

TEST(CodingChoice, TakesTheSmallerCodec) {
  const std::vector<CodecId> both = {CodecId::kE3, CodecId::kE4};
  const MatrixCoding few = choose(both, rows_of(128, 6, 1), 64);
  EXPECT_EQ(few.codec, CodecId::kE3);
  EXPECT_EQ(few.row_stride_bytes, RowLayout::stride_for(CodecId::kE3, DType::kBFloat16, kK, 0));
  EXPECT_EQ(few.coded, std::vector<bool>(2, true));
  const MatrixCoding more = choose(both, rows_of(128, 15, 1), 64);
  EXPECT_EQ(more.codec, CodecId::kE4);
}

TEST(CodingChoice, SaysWhatEachCodecTakes) {
  const std::vector<CodecId> both = {CodecId::kE3, CodecId::kE4};
  const CodingChoice few = look_at(both, rows_of(128, 6, 1), 64);  // two tiles in whole pages
  EXPECT_EQ(few.bytes_with(CodecId::kRaw), 128 * 2 * kK);
  for (const CodecId codec : both) {
    const uint64_t stride = RowLayout::stride_for(codec, DType::kBFloat16, kK, 0);
    EXPECT_EQ(few.bytes_with(codec), 2 * align_up(64 * stride, kPageBytes)) << codec_name(codec);
  }
  const CodingChoice neither = look_at(both, rows_of(128, 100, 1), 64);
  for (const CodecId codec : both) {
    EXPECT_EQ(neither.bytes_with(codec), neither.bytes_with(CodecId::kRaw)) << codec_name(codec);
  }
}

TEST(CodingChoice, WhatDoesNotShrinkStaysRaw) {
  const MatrixCoding coding = choose({CodecId::kE3, CodecId::kE4}, rows_of(128, 100, 1), 64);
  EXPECT_EQ(coding.codec, CodecId::kRaw);
  EXPECT_EQ(coding.of_tile(0), CodecId::kRaw);
  EXPECT_EQ(choose({}, rows_of(64, 4, 1), 64).codec, CodecId::kRaw);
}

// One bad row must not cost all the others.
TEST(CodingChoice, TilesWithBadRowsStayRaw) {
  std::vector<uint16_t> elements = rows_of(512, 7, 1);
  const std::vector<uint16_t> bad = rows_of(1, 100, 2);
  std::ranges::copy(bad, elements.begin() + 130 * kK);
  const MatrixCoding coding = choose({CodecId::kE3}, elements, 64);
  EXPECT_EQ(coding.codec, CodecId::kE3);
  for (size_t tile = 0; tile < 8; ++tile) {
    EXPECT_EQ(coding.of_tile(tile), tile == 2 ? CodecId::kRaw : CodecId::kE3) << tile;
  }
}

TEST(AllowedCodecs, BelongToTheDtype) {
  EXPECT_EQ(allowed_codecs("auto", DType::kBFloat16),
            (std::vector<CodecId>{CodecId::kE3, CodecId::kE4}));
  EXPECT_EQ(allowed_codecs("auto", DType::kFloat16), std::vector<CodecId>{CodecId::kE3});
  EXPECT_TRUE(allowed_codecs("auto", DType::kFloat32).empty());
  EXPECT_TRUE(allowed_codecs("none", DType::kBFloat16).empty());
  EXPECT_EQ(allowed_codecs("e4", DType::kBFloat16), std::vector<CodecId>{CodecId::kE4});
  expect_error(ErrorCode::kInvalidArgument, "e4 is not for float16 weights: use e3",
               [] { allowed_codecs("e4", DType::kFloat16); });
  expect_error(ErrorCode::kInvalidArgument, "use auto or none",
               [] { allowed_codecs("e3", DType::kFloat32); });
  expect_error(ErrorCode::kInvalidArgument, "use auto, none, e3 or e4",
               [] { allowed_codecs("zip", DType::kFloat16); });
}

}  // namespace
}  // namespace headrace
