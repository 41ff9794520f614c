#include "sampling/philox.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace headrace {
namespace {

using Words = std::array<uint32_t, 4>;

// The known answers that Random123, the authors' library, is tested with.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(UniformAt, IsTheFirstTwoWordsAsAFraction) {
  const uint64_t bits = 0xe169c58d6627e8d5;  // of the first known answer
  EXPECT_EQ(uniform_at(0, 0), static_cast<double>(bits >> 11) / 9007199254740992.0);
}

TEST(UniformAt, IsUniform) {
  constexpr int kCount = 100'000;
  double sum = 0;
  double squares = 0;
  std::set<double> distinct;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double value = uniform_at(i % 10, i / 10 + (i % 2 == 0 ? uint64_t{1} << 40 : 0));
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    sum += value;
    squares += value * value;
    distinct.insert(value);
  }
  EXPECT_EQ(distinct.size(),
            static_cast<size_t>(kCount));  // seeds and positions differ in all bits
  // Mean 1/2 and mean square 1/3, within four standard deviations of their estimates.
  EXPECT_NEAR(sum / kCount, 0.5, 4 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 4 * std::sqrt(4.0 / 45 / kCount));
}

}  // namespace
}  // namespace headrace
