#include "codec/row_code.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headrace {
namespace {

struct Case {
  CodecId codec;
  DType dtype;
};

std::vector<Case> cases() {
  return {{CodecId::kE3, DType::kBFloat16},
          {CodecId::kE4, DType::kBFloat16},
          {CodecId::kE3, DType::kFloat16}};
}

/// Encodes with the least stride and decodes; the row is followed by bytes that must not be
/// touched.
std::vector<uint16_t> round_trip(const Case& c, std::span<const uint16_t> row) {
  const auto k = static_cast<int64_t>(row.size());
  const RowBook book = choose_book(c.codec, c.dtype, row);
  const uint64_t stride =
      RowLayout::stride_for(c.codec, c.dtype, k, static_cast<uint64_t>(book.escapes));
  EXPECT_TRUE(RowLayout::fits(c.codec, c.dtype, k, stride));
  const RowLayout layout = RowLayout::of(c.codec, c.dtype, k, stride);
  std::vector<std::byte> coded(stride + 64, std::byte{0xa5});
  encode_row(layout, book, row, coded.data());
  EXPECT_TRUE(
      std::all_of(coded.end() - 64, coded.end(), [](std::byte b) { return b == std::byte{0xa5}; }));
  EXPECT_EQ(count_escapes(layout, coded.data()), book.escapes);
  std::vector<uint16_t> back(row.size());
  decode_row(layout, coded.data(), back);
  return back;
}

TEST(RowCode, EveryPatternComesBack) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  std::shuffle(all.begin(), all.end(), std::mt19937(1));
  for (const Case& c : cases()) {
    EXPECT_EQ(round_trip(c, all), all);
    // In rows of a few exponents each, so that patterns are coded and not escaped.
    std::vector<uint16_t> sorted = all;
    std::sort(sorted.begin(), sorted.end(), [](uint16_t a, uint16_t b) {
      return (a & 0x7fff) != (b & 0x7fff) ? (a & 0x7fff) < (b & 0x7fff) : a < b;
    });
    for (size_t begin = 0; begin < sorted.size(); begin += 1792) {
      const auto row = std::span(sorted).subspan(begin, std::min<size_t>(1792, 65536 - begin));
      EXPECT_TRUE(std::ranges::equal(round_trip(c, row), row));
    }
  }
}

RC_GTEST_PROP(RowCode, RandomRowsComeBack, ()) {
  const Case c = *rc::gen::elementOf(cases());
  const auto k = *rc::gen::inRange<size_t>(1, 3000);
  const auto kinds = *rc::gen::inRange(1, 40);  // exponents that occur
  std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
  std::vector<uint16_t> row(k);
  for (uint16_t& bits : row) {
    const uint32_t noise = static_cast<uint32_t>(random());
    const uint32_t exponent = static_cast<uint32_t>(random()) % static_cast<uint32_t>(kinds) * 5;
    bits = static_cast<uint16_t>(c.dtype == DType::kBFloat16
                                     ? (noise & 0x807fu) | (exponent & 0xff) << 7
                                     : (noise & 0x83ffu) | (exponent & 0x1f) << 10);
  }
  RC_ASSERT(round_trip(c, row) == row);
}

TEST(RowCode, RowsOfOneValueComeBack) {
  for (const Case& c : cases()) {
    for (const int bits : {0x0000, 0x8000, 0x7c00, 0x7f80, 0xffff, 0x7fc1, 0x0001, 0x3f80}) {
      const auto value = static_cast<uint16_t>(bits);
      for (const size_t k : {1u, 7u, 255u, 256u, 257u, 1024u, 1025u, 4096u}) {
        const std::vector<uint16_t> row(k, value);
        EXPECT_EQ(round_trip(c, row), row);
        EXPECT_EQ(choose_book(c.codec, c.dtype, row).escapes, 0);
      }
    }
  }
}

/// Padding times -0 must be -0 (docs/numerics.md), also in a row of infinities.
TEST(RowCode, PaddingIsFiniteAndPositive) {
  for (const Case& c : cases()) {
    const std::vector<uint16_t> row(3, c.dtype == DType::kBFloat16 ? 0xff80 : 0xfc00);
    const RowBook book = choose_book(c.codec, c.dtype, row);
    const RowLayout layout =
        RowLayout::of(c.codec, c.dtype, 3, RowLayout::stride_for(c.codec, c.dtype, 3, 0));
    std::vector<std::byte> coded(layout.stride_bytes);
    encode_row(layout, book, row, coded.data());
    RowLayout whole = layout;
    whole.k = RowLayout::kChunk;
    std::vector<uint16_t> padded(static_cast<size_t>(whole.k));
    decode_row(whole, coded.data(), padded);
    for (size_t i = 3; i < padded.size(); ++i) {
      const uint16_t exponents = c.dtype == DType::kBFloat16 ? 0x7f80 : 0x7c00;
      EXPECT_EQ(padded[i] & 0x8000, 0);
      EXPECT_NE(padded[i] & exponents, exponents);
    }
  }
}

/// What no encoder writes must not lead out of the row: the address sanitizer would see it.
RC_GTEST_PROP(RowCode, ForgedRowsStayInside, ()) {
  const Case c = *rc::gen::elementOf(cases());
  const auto k = *rc::gen::inRange<int64_t>(1, 3000);
  const auto escapes = *rc::gen::inRange<uint64_t>(0, 100);
  const RowLayout layout =
      RowLayout::of(c.codec, c.dtype, k, RowLayout::stride_for(c.codec, c.dtype, k, escapes));
  std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
  std::vector<std::byte> coded(layout.stride_bytes);
  for (std::byte& byte : coded) byte = static_cast<std::byte>(random() & random() & 0xff);
  std::vector<uint16_t> out(static_cast<size_t>(k));
  decode_row(layout, coded.data(), out);
  RC_ASSERT(count_escapes(layout, coded.data()) >= 0);
}

TEST(RowCode, AsManyEscapesFitAsThereIsRoom) {
  for (const Case& c : cases()) {
    constexpr int64_t kK = 256;  // its codes are a nibble each
    const RowLayout layout =
        RowLayout::of(c.codec, c.dtype, kK, RowLayout::stride_for(c.codec, c.dtype, kK, 1));
    ASSERT_LT(layout.escape_capacity, 64U);
    std::vector<std::byte> rows(3 * layout.stride_bytes, std::byte{0x11});  // no escapes
    std::byte* const codes = rows.data() + layout.stride_bytes + layout.groups_offset + kK;
    for (uint64_t escapes = 0; escapes <= layout.escape_capacity + 1; ++escapes) {
      EXPECT_EQ(escapes_fit(layout, rows), escapes <= layout.escape_capacity) << escapes;
      codes[escapes / 2] &= escapes % 2 == 0 ? std::byte{0xf0} : std::byte{0x00};
    }
  }
}

TEST(RowLayout, GaussianRowsShrink) {
  const uint64_t e3 = RowLayout::stride_for(CodecId::kE3, DType::kBFloat16, 4096, 112);
  EXPECT_EQ(e3, 16 + 112 + 4 * (1024 + 384));
  const uint64_t e4 = RowLayout::stride_for(CodecId::kE4, DType::kBFloat16, 11008, 48);
  EXPECT_EQ(e4, 16 + 48 + 43 * (256 + 128));
  const uint64_t half = RowLayout::stride_for(CodecId::kE3, DType::kFloat16, 4096, 48);
  EXPECT_EQ(half, 16 + 48 + 4 * (1024 + 2 * 384));
}

TEST(RowLayout, RefusesWhatCannotBe) {
  EXPECT_FALSE(RowLayout::fits(CodecId::kE4, DType::kFloat16, 4096, 1 << 20));
  EXPECT_FALSE(RowLayout::fits(CodecId::kE3, DType::kFloat32, 4096, 1 << 20));
  EXPECT_FALSE(RowLayout::fits(CodecId::kRaw, DType::kBFloat16, 4096, 1 << 20));
  const uint64_t least = RowLayout::stride_for(CodecId::kE3, DType::kBFloat16, 4096, 0);
  EXPECT_TRUE(RowLayout::fits(CodecId::kE3, DType::kBFloat16, 4096, least));
  EXPECT_FALSE(RowLayout::fits(CodecId::kE3, DType::kBFloat16, 4096, least - 64));
  EXPECT_FALSE(RowLayout::fits(CodecId::kE3, DType::kBFloat16, 4096, least + 16));
}

}  // namespace
}  // namespace headrace
