#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace headrace {

/// Types of GGUF tensors that can be read; the numbers are GGUF's.
enum class QuantType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kBF16 = 30,
};

/// Inverse of the numbering; nothing for types that cannot be read.
std::optional<QuantType> quant_type_from_number(uint32_t number);
/// "F16", "Q4_K", ...: also of types that cannot be read, for errors. "type 99" for unknown ones.
std::string quant_type_name(uint32_t number);

/// Elements and bytes of one block: 1 and 2 for F16, 32 and 18 for Q4_0.
int64_t block_elements(QuantType type);
uint64_t block_bytes(QuantType type);
inline bool is_quantized(QuantType type) { return block_elements(type) > 1; }

/// Expands whole blocks to float. Blocks of 32 elements (ggml's quantisation formats):
///   Q8_0: f16 d, 32 x i8 q:         d q
///   Q4_0: f16 d, 16 bytes q:        d (q - 8); byte j holds element j (low half) and j + 16 (high)
///   Q4_1: f16 d, f16 m, 16 bytes q: d q + m
/// The arithmetic is float, each operation rounded. REQUIRES: `blocks` are those of `out`'s
/// elements.
void dequantize(QuantType type, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace headrace
