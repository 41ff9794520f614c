#include "checkpoint/quant_blocks.h"

#include <array>

#include <gtest/gtest.h>

namespace headrace {
namespace {

std::vector<std::byte> block_of(std::initializer_list<int> values, size_t size) {
  std::vector<std::byte> block;
  for (const int value : values) block.push_back(static_cast<std::byte>(value));
  block.resize(size);
  return block;
}

// 0x3c00 is 1.0 and 0x3800 is 0.5 in float16; both little-endian below. tests/golden holds what the
// gguf package makes of random blocks (GgufTest).

TEST(QuantBlocks, Q8) {
  std::vector<float> out(32);
  dequantize(QuantType::kQ8_0, block_of({0x00, 0x38, 1, 0xff, 127, 0x80}, 34), out);
  EXPECT_EQ(out[0], 0.5f);
  EXPECT_EQ(out[1], -0.5f);
  EXPECT_EQ(out[2], 63.5f);
  EXPECT_EQ(out[3], -64.0f);
  EXPECT_EQ(out[4], 0.0f);
}

TEST(QuantBlocks, Q4LowHalvesComeFirst) {
  std::vector<float> out(32);
  dequantize(QuantType::kQ4_0, block_of({0x00, 0x38, 0xf0}, 18), out);
  EXPECT_EQ(out[0], -4.0f);  // (0 - 8) / 2
  EXPECT_EQ(out[16], 3.5f);  // (15 - 8) / 2
  EXPECT_EQ(out[1], -4.0f);
}

TEST(QuantBlocks, Q4WithMinimum) {
  std::vector<float> out(32);
  dequantize(QuantType::kQ4_1, block_of({0x00, 0x38, 0x00, 0x3c, 0x3f}, 20), out);
  EXPECT_EQ(out[0], 8.5f);   // 15 / 2 + 1
  EXPECT_EQ(out[16], 2.5f);  // 3 / 2 + 1
  EXPECT_EQ(out[31], 1.0f);
}

TEST(QuantBlocks, NumbersAreGgufs) {
  EXPECT_EQ(quant_type_from_number(30), QuantType::kBF16);
  EXPECT_EQ(quant_type_from_number(12), std::nullopt);
  EXPECT_EQ(quant_type_name(12), "Q4_K");
  EXPECT_EQ(quant_type_name(14), "Q6_K");
  EXPECT_EQ(quant_type_name(4), "type 4");
  EXPECT_EQ(quant_type_name(4000000000u), "type 4000000000");
  EXPECT_TRUE(is_quantized(QuantType::kQ8_0));
  EXPECT_FALSE(is_quantized(QuantType::kBF16));
}

}  // namespace
}  // namespace headrace
