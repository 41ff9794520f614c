#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace headrace::reference {

/// Scalar definitions of docs/numerics.md, one element or one row at a time.

/// Element `index` of an array of `dtype`, as float.
float load_element(DType dtype, const std::byte* data, int64_t index);

/// Rounds `value` to `dtype` (to nearest, ties to even) and stores it as element `index`.
void store_element(DType dtype, std::byte* data, int64_t index, float value);

/// Adds the upper half of `values` to the lower until one is left, and returns it. The size is a
/// power of two; the contents are destroyed.
float tree_sum(std::span<float> values);

/// Canonical dot product of k elements of w and x.
float canonical_dot(DType dtype, const std::byte* w, const std::byte* x, int64_t k);

/// Canonical sum of x[i]^2.
float canonical_square_sum(const float* x, int64_t count);

/// e^x, for any x: 0 for -infinity, infinity past 88.72, NaN for NaN.
float exp(float x);

/// x / (1 + e^-x).
float silu(float x);

}  // namespace headrace::reference
