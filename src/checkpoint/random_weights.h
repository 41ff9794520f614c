#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace headrace {

/// Fills `out` with elements [first, first + n) of an endless sequence of pseudo-random values,
/// which depends on `stream` alone: nearly normal (the sum of four uniform values, so at most 3.46
/// standard deviations from zero), mean 0, the given standard deviation. Integer arithmetic and one
/// rounded product: the same bits on every machine.
void fill_random(uint64_t stream, uint64_t first, float standard_deviation, DType dtype,
                 std::span<std::byte> out);

/// The stream of tensor `index` of the model with this seed.
uint64_t random_stream(uint64_t seed, uint64_t index);

}  // namespace headrace
