#pragma once

namespace headrace {

struct SinCos {
  float sin;
  float cos;
};

/// Sine and cosine of an angle in radians, computed in double by fixed steps and rounded once, so
/// that they do not depend on the machine's libm. Within one ulp for |angle| up to 2^20; no NaN for
/// larger finite angles, whose accuracy falls.
SinCos sincos(float angle);

}  // namespace headrace
