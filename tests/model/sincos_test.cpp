#include "model/sincos.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace headrace {
namespace {

void expect_close(float angle) {
  const SinCos value = sincos(angle);
  const long double exact = angle;
  // Half an ulp of the result's binade, and room for the double that is rounded.
  const auto bound = [](long double x) { return std::ldexp(std::fabs(x), -24) * 1.001L + 1e-17L; };
  EXPECT_NEAR(static_cast<double>(value.sin), static_cast<double>(std::sin(exact)),
              static_cast<double>(bound(std::sin(exact))))
      << angle;
  EXPECT_NEAR(static_cast<double>(value.cos), static_cast<double>(std::cos(exact)),
              static_cast<double>(bound(std::cos(exact))))
      << angle;
}

TEST(SinCosTest, MatchesLibraryInHigherPrecision) {
  for (float angle = 1e-6f; angle < 1.1e6f; angle *= 1.00731f) {
    expect_close(angle);
    expect_close(-angle);
  }
}

TEST(SinCosTest, QuadrantBoundaries) {
  for (int quadrant = -9; quadrant <= 9; ++quadrant) {
    const auto angle = static_cast<float>(quadrant * 1.5707963267948966);
    expect_close(std::nextafter(angle, -10.0f * 10));
    expect_close(angle);
    expect_close(std::nextafter(angle, 10.0f * 10));
  }
}

TEST(SinCosTest, HugeAndNotFiniteAnglesGiveNumbers) {
  for (const float angle : {1e20f, -1e20f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_TRUE(std::isfinite(sincos(angle).sin));
    EXPECT_TRUE(std::isfinite(sincos(angle).cos));
  }
}

}  // namespace
}  // namespace headrace
