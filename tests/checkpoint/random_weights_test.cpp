#include "checkpoint/random_weights.h"

#include <bit>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace headrace {
namespace {

template <typename T>
std::vector<T> random_elements(uint64_t stream, uint64_t first, size_t count, DType dtype) {
  std::vector<T> values(count);
  fill_random(stream, first, 0.02f, dtype, std::as_writable_bytes(std::span(values)));
  return values;
}

// Expected values: tests/golden/checkpoint/random_weights.py.

TEST(RandomWeights, Streams) {
  EXPECT_EQ(random_stream(1, 0), 0xdce423fc82c0d5b8u);
  EXPECT_EQ(random_stream(1, 7), 0x1f19b669ed0688ecu);
  EXPECT_EQ(random_stream(~uint64_t{0}, 3), 0xfb495ee6088f77d6u);
}

TEST(RandomWeights, Values) {
  EXPECT_EQ(random_elements<uint32_t>(random_stream(1, 0), 0, 4, DType::kFloat32),
            (std::vector<uint32_t>{0x3b071997, 0xbc2eefe8, 0x3c6a11c1, 0x3b8a7a3b}));
  EXPECT_EQ(random_elements<uint16_t>(random_stream(1, 7), 0, 4, DType::kFloat16),
            (std::vector<uint16_t>{0x1f51, 0xa54d, 0xa475, 0x9cbd}));
  EXPECT_EQ(random_elements<uint16_t>(random_stream(~uint64_t{0}, 3), 1, 3, DType::kFloat16),
            (std::vector<uint16_t>{0x21d9, 0x1e3e, 0x1ec1}));
}

RC_GTEST_PROP(RandomWeights, PiecesAreOneSequence, (uint64_t stream)) {
  const auto first = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << 40);
  const auto split = *rc::gen::inRange<size_t>(0, 40);
  const auto whole = random_elements<uint16_t>(stream, first, 40, DType::kBFloat16);
  auto pieces = random_elements<uint16_t>(stream, first, split, DType::kBFloat16);
  const auto rest = random_elements<uint16_t>(stream, first + split, 40 - split, DType::kBFloat16);
  pieces.insert(pieces.end(), rest.begin(), rest.end());
  RC_ASSERT(pieces == whole);
}

TEST(RandomWeights, NearlyNormal) {
  constexpr size_t kCount = 1'000'000;
  const auto values = random_elements<float>(random_stream(5, 5), 0, kCount, DType::kFloat32);
  double sum = 0;
  double squares = 0;
  size_t inside = 0;
  for (const float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
    inside += std::abs(value) < 0.02f ? 1 : 0;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 0.0001);
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.02, 0.0001);
  // Within one deviation: 0.6827 for a normal distribution, a little less for four uniform values.
  EXPECT_NEAR(static_cast<double>(inside) / kCount, 0.68, 0.015);
}

}  // namespace
}  // namespace headrace
