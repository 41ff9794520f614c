#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "checkpoint/quant_blocks.h"
#include "tensor/dtype.h"

namespace headrace {

/// What a conversion to fewer bits did to values.
struct Narrowing {
  uint64_t overflowed = 0;  // finite before, infinite after
  uint64_t flushed = 0;     // not zero before, zero after

  Narrowing& operator+=(const Narrowing& other) {
    overflowed += other.overflowed;
    flushed += other.flushed;
    return *this;
  }
};

/// Whether values of `type` lie in `dtype` bit for bit as they are.
bool same_bits(QuantType type, DType dtype);

/// Whether a conversion can lose range or precision: not to the same type, nor to float32.
bool is_narrowing(QuantType type, DType dtype);

/// Expands `blocks` and rounds each value to nearest even in `dtype`; a copy where same_bits().
/// REQUIRES: `out` has room for exactly the blocks' elements.
Narrowing convert_values(QuantType type, std::span<const std::byte> blocks, DType dtype,
                         std::span<std::byte> out);

}  // namespace headrace
