#include "checkpoint/narrowing.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headrace {
namespace {

/// Rounds floats and returns the bits and what was lost.
template <typename T>
std::pair<std::vector<T>, Narrowing> rounded(const std::vector<float>& values, DType dtype) {
  std::vector<T> out(values.size());
  const Narrowing narrowing = convert_values(QuantType::kF32, std::as_bytes(std::span(values)),
                                             dtype, std::as_writable_bytes(std::span(out)));
  return {out, narrowing};
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Narrowing, CountsWhatFloat16CannotHold) {
  // 65520 is the least value that rounds to infinity, 2^-25 the largest that rounds to zero.
  const auto [bits, narrowing] =
      rounded<uint16_t>({1.0f, 65504.0f, 65519.0f, 65520.0f, -1e6f, kInfinity, 0x1p-25f, 0x1.8p-25f,
                         -1e-10f, 0.0f, -0.0f},
                        DType::kFloat16);
  EXPECT_EQ(narrowing.overflowed, 2u);
  EXPECT_EQ(narrowing.flushed, 2u);
  EXPECT_EQ(bits, (std::vector<uint16_t>{0x3c00, 0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x0000,
                                         0x0001, 0x8000, 0x0000, 0x8000}));
}

TEST(Narrowing, BFloat16HasTheRange) {
  const auto [bits, narrowing] = rounded<uint16_t>(
      {1e38f, std::numeric_limits<float>::max(), 1e-40f, 0x1p-149f}, DType::kBFloat16);
  EXPECT_EQ(narrowing.overflowed, 1u);  // the largest float rounds up
  EXPECT_EQ(narrowing.flushed, 1u);     // the least denormal
  EXPECT_EQ(bits[1], 0x7f80);
  EXPECT_EQ(bits[3], 0x0000);
}

TEST(Narrowing, NotANumberIsNoOverflow) {
  const auto [bits, narrowing] = rounded<uint16_t>({std::nanf("")}, DType::kFloat16);
  EXPECT_EQ(narrowing.overflowed, 0u);
  EXPECT_GT(bits[0] & 0x7fff, 0x7c00);
}

RC_GTEST_PROP(Narrowing, SameTypeKeepsEveryBit, (const std::vector<uint16_t>& bits)) {
  for (const auto& [type, dtype] : {std::pair(QuantType::kF16, DType::kFloat16),
                                    std::pair(QuantType::kBF16, DType::kBFloat16)}) {
    std::vector<uint16_t> out(bits.size());
    const Narrowing narrowing = convert_values(type, std::as_bytes(std::span(bits)), dtype,
                                               std::as_writable_bytes(std::span(out)));
    RC_ASSERT(out == bits);
    RC_ASSERT(narrowing.overflowed + narrowing.flushed == 0u);
  }
}

RC_GTEST_PROP(Narrowing, LongRunsAreValueByValue, ()) {
  const auto count = *rc::gen::inRange<size_t>(1, 3000);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 1500.0f;
  const auto [bits, narrowing] = rounded<uint16_t>(values, DType::kFloat16);
  const size_t probe = *rc::gen::inRange<size_t>(0, count);
  const auto [one, ignored] = rounded<uint16_t>({values[probe]}, DType::kFloat16);
  RC_ASSERT(bits[probe] == one[0]);
  RC_ASSERT(narrowing.overflowed == 0u);
}

TEST(Narrowing, BlocksExpand) {
  std::vector<std::byte> block(34);
  block[1] = std::byte{0x3c};  // scale 1.0
  block[2] = std::byte{7};
  block[33] = std::byte{0xfe};
  std::vector<float> out(32);
  convert_values(QuantType::kQ8_0, block, DType::kFloat32, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out[0], 7.0f);
  EXPECT_EQ(out[31], -2.0f);
  EXPECT_TRUE(is_narrowing(QuantType::kQ8_0, DType::kBFloat16));
  EXPECT_FALSE(is_narrowing(QuantType::kQ8_0, DType::kFloat32));
  EXPECT_FALSE(is_narrowing(QuantType::kBF16, DType::kBFloat16));
  EXPECT_TRUE(is_narrowing(QuantType::kF16, DType::kBFloat16));
}

}  // namespace
}  // namespace headrace
