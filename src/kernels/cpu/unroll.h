#pragma once

#include <utility>

#define HR_INLINE inline __attribute__((always_inline))

namespace headrace::cpu {

/// Calls body(std::integral_constant<int, 0>), ..., body(<N - 1>): a loop that is always unrolled,
/// so that arrays of vectors indexed by it live in registers.
template <int N, typename Body>
HR_INLINE void unroll(Body body) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kIndex>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

}  // namespace headrace::cpu
