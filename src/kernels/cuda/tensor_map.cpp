#include "kernels/cuda/tensor_map.h"

#include <array>

#include "kernels/cuda/driver.h"

namespace headrace::cuda {

std::optional<CUtensorMap> tensor_map(const std::byte* numbers, int64_t rows, int64_t columns,
                                      size_t row_stride_bytes, int box_rows) {
  static const auto encode = [] {
    constexpr unsigned kVersion = 12000;  // that brought tensor maps
    decltype(&cuTensorMapEncodeTiled) found = nullptr;
    find_driver_function(found, "cuTensorMapEncodeTiled", kVersion);  // null if there is none
    return found;
  }();
  if (encode == nullptr) return std::nullopt;
  const std::array<cuuint64_t, 2> sizes = {static_cast<cuuint64_t>(columns),
                                           static_cast<cuuint64_t>(rows)};
  const std::array<cuuint64_t, 1> strides = {row_stride_bytes};
  const std::array<cuuint32_t, 2> box = {kBoxColumns, static_cast<cuuint32_t>(box_rows)};
  const std::array<cuuint32_t, 2> steps = {1, 1};
  CUtensorMap map = {};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, const_cast<std::byte*>(numbers), sizes.data(),
             strides.data(), box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return std::nullopt;
  return map;
}

}  // namespace headrace::cuda
