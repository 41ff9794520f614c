#include "model/sincos.h"

#include <cstdint>

namespace headrace {
namespace {

/// pi/2 in two parts; the first has 33 significant bits, so that its product with a quadrant number
/// below 2^20 is exact (Cody and Waite 1980, chapter 8).
constexpr double kHalfPiHigh = 1.57079632673412561417e+00;
constexpr double kHalfPiLow = 6.07710050650619224932e-11;
constexpr double kTwoOverPi = 6.36619772367581382433e-01;

/// Taylor polynomials around 0: on |r| <= pi/4 the first omitted terms are below 3e-17.
double sin_polynomial(double r) {
  const double s = r * r;
  double p = 1.0 / 355687428096000.0;
  p = p * s - 1.0 / 1307674368000.0;
  p = p * s + 1.0 / 6227020800.0;
  p = p * s - 1.0 / 39916800.0;
  p = p * s + 1.0 / 362880.0;
  p = p * s - 1.0 / 5040.0;
  p = p * s + 1.0 / 120.0;
  p = p * s - 1.0 / 6.0;
  return r + r * (s * p);
}

double cos_polynomial(double r) {
  const double s = r * r;
  double p = 1.0 / 20922789888000.0;
  p = p * s - 1.0 / 87178291200.0;
  p = p * s + 1.0 / 479001600.0;
  p = p * s - 1.0 / 3628800.0;
  p = p * s + 1.0 / 40320.0;
  p = p * s - 1.0 / 720.0;
  p = p * s + 1.0 / 24.0;
  p = p * s - 1.0 / 2.0;
  return 1.0 + s * p;
}

}  // namespace

SinCos sincos(float angle) {
  constexpr double kLargest = 1e15;  // beyond, an int64 quadrant number has no meaning
  const auto x = static_cast<double>(angle);
  if (!(x > -kLargest && x < kLargest)) return {.sin = 0.0f, .cos = 1.0f};
  const double scaled = x * kTwoOverPi;
  const auto quadrant = static_cast<int64_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  const auto turns = static_cast<double>(quadrant);
  const double r = (x - turns * kHalfPiHigh) - turns * kHalfPiLow;
  const double s = sin_polynomial(r);
  const double c = cos_polynomial(r);
  switch (quadrant & 3) {
    case 0:
      return {.sin = static_cast<float>(s), .cos = static_cast<float>(c)};
    case 1:
      return {.sin = static_cast<float>(c), .cos = static_cast<float>(-s)};
    case 2:
      return {.sin = static_cast<float>(-s), .cos = static_cast<float>(-c)};
    default:
      return {.sin = static_cast<float>(-c), .cos = static_cast<float>(s)};
  }
}

}  // namespace headrace
