#include "sampling/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(ExpNonpositive, IsWithinTwoUnitsOfTheExactValue) {
  for (float x = 0; x >= -87; x -= 0.00371f) {
    const double exact = std::exp(static_cast<double>(x));
    const auto rounded = static_cast<float>(exact);
    const double unit = std::nextafter(rounded, kInfinity) - rounded;
    ASSERT_NEAR(static_cast<double>(exp_nonpositive(x)), exact, 2 * unit) << x;
  }
  EXPECT_EQ(exp_nonpositive(0), 1);
  EXPECT_EQ(exp_nonpositive(-0.0f), 1);
  EXPECT_EQ(exp_nonpositive(-87.5f), 0);
  EXPECT_EQ(exp_nonpositive(-kInfinity), 0);
}

TEST(Argmax, TheFirstOfTheLargest) {
  EXPECT_EQ(argmax(std::vector<float>{3}), 0);
  EXPECT_EQ(argmax(std::vector<float>{-kInfinity, -2, -1, -1}), 2);
  rc::check("is what max_element finds", [] {
    const auto small = *rc::gen::nonEmpty<std::vector<int8_t>>();  // few values, so many ties
    const std::vector<float> logits(small.begin(), small.end());
    RC_ASSERT(argmax(logits) == std::max_element(logits.begin(), logits.end()) - logits.begin());
  });
}

TEST(Argmax, NamesTheTokenOfABadLogit) {
  for (const size_t size : {1u, 16u, 17u, 1000u}) {
    for (size_t at = 0; at < size; at += 7) {
      std::vector<float> logits(size, 1.0f);
      logits[at] = kNan;
      expect_error(ErrorCode::kInvalidArgument, fmt::format("token {} is not a number", at),
                   [&] { argmax(logits); });
      logits[at] = kInfinity;
      expect_error(ErrorCode::kInvalidArgument, fmt::format("token {} is infinite", at),
                   [&] { argmax(logits); });
    }
  }
  expect_error(ErrorCode::kInvalidArgument, "no token",
               [] { argmax(std::vector<float>(20, -kInfinity)); });
  expect_error(ErrorCode::kInvalidArgument, "no token", [] { argmax({}); });
}

TEST(LogSumExp, EqualsTheSumInDouble) {
  rc::check("equals the sum in double", [] {
    const auto numbers = *rc::gen::nonEmpty<std::vector<int16_t>>();
    std::vector<float> logits;
    for (const int16_t number : numbers) logits.push_back(static_cast<float>(number) / 1000);
    const float maximum = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit - maximum));
    RC_ASSERT(std::abs(log_sum_exp(logits, maximum) - (maximum + std::log(sum))) < 1e-6);
  });
  const std::vector<float> many(128'000, 2.0f);
  EXPECT_NEAR(log_sum_exp(many, 2.0f), 2 + std::log(128'000.0), 1e-9);
}

}  // namespace
}  // namespace headrace
