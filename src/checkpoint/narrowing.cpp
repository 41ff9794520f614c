#include "checkpoint/narrowing.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr size_t kChunk = 1024;  // elements at a time; a multiple of every block

/// `infinity` is the format's; all above are NaN.
template <uint16_t kInfinity, typename Round>
Narrowing round_values(std::span<const float> values, std::byte* out, Round&& round) {
  std::array<uint16_t, kChunk> rounded;
  Narrowing narrowing;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu;
    const uint16_t bits = round(values[i]);
    rounded[i] = bits;
    narrowing.overflowed += (bits & 0x7fffu) == kInfinity && magnitude < 0x7f800000u ? 1 : 0;
    narrowing.flushed += (bits & 0x7fffu) == 0 && magnitude != 0 ? 1 : 0;
  }
  std::memcpy(out, rounded.data(), values.size() * sizeof(uint16_t));
  return narrowing;
}

}  // namespace

bool same_bits(QuantType type, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return type == QuantType::kF32;
    case DType::kFloat16:
      return type == QuantType::kF16;
    case DType::kBFloat16:
      return type == QuantType::kBF16;
  }
  return false;
}

bool is_narrowing(QuantType type, DType dtype) {
  return dtype != DType::kFloat32 && !same_bits(type, dtype);
}

Narrowing convert_values(QuantType type, std::span<const std::byte> blocks, DType dtype,
                         std::span<std::byte> out) {
  if (same_bits(type, dtype)) {
    HR_CHECK(blocks.size() == out.size());
    std::ranges::copy(blocks, out.begin());
    return {};
  }
  const size_t elements = out.size() / dtype_size(dtype);
  std::array<float, kChunk> expanded;
  Narrowing narrowing;
  for (size_t done = 0; done < elements; done += kChunk) {
    const std::span<float> values(expanded.data(), std::min(kChunk, elements - done));
    const auto block_size = static_cast<size_t>(block_elements(type));
    dequantize(type,
               blocks.subspan(done / block_size * block_bytes(type),
                              values.size() / block_size * block_bytes(type)),
               values);
    std::byte* const target = out.data() + done * dtype_size(dtype);
    switch (dtype) {
      case DType::kFloat32:
        std::memcpy(target, values.data(), values.size_bytes());
        break;
      case DType::kFloat16:
        narrowing += round_values<0x7c00>(values, target, float_to_float16);
        break;
      case DType::kBFloat16:
        narrowing += round_values<0x7f80>(values, target, float_to_bfloat16);
        break;
    }
  }
  return narrowing;
}

}  // namespace headrace
