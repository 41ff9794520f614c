#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace headrace::testing {

/// A tensor for write_safetensors.
struct NamedTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape = {};
  std::vector<std::byte> bytes = {};
};

/// Writes a safetensors file, independently of the program's own writer.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors);

/// `values` in `dtype`, rounded to nearest even.
std::vector<std::byte> to_bytes(const std::vector<float>& values, DType dtype);

/// `count` pseudo-random values in [-scale, scale), the same for the same seed everywhere.
std::vector<float> random_values(uint64_t seed, int64_t count, float scale);

}  // namespace headrace::testing
