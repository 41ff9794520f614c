#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace headrace {

/// Element types of weights, activations and the KV cache. The numbers are stored in engine files:
/// never renumber.
enum class DType : uint8_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

/// Bytes of one element.
constexpr size_t dtype_size(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

/// "float32", "float16" or "bfloat16".
std::string_view dtype_name(DType dtype);

/// Inverse of dtype_name; also takes fp32, fp16 and bf16. Error{kUnsupported} naming `what`
/// otherwise.
DType parse_dtype(std::string_view name, std::string_view what);

}  // namespace headrace
