#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <cuda.h>

namespace headrace::cuda {

/// Describes a row-major matrix of 16-bit numbers in device memory, of which kernels copy boxes of
/// box_rows rows and kBoxColumns columns: to shared memory, in swizzled lines (warp_group.cuh), and
/// back. What a box has outside of the matrix reads as zero and is not written. Address and stride
/// are multiples of 16 bytes, box_rows at most 256. Nothing if the driver refuses, or knows
/// no such thing.
std::optional<CUtensorMap> tensor_map(const std::byte* numbers, int64_t rows, int64_t columns,
                                      size_t row_stride_bytes, int box_rows);
inline constexpr int kBoxColumns = 64;

}  // namespace headrace::cuda
