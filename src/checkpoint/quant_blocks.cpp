#include "checkpoint/quant_blocks.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr size_t kBlock = 32;

struct TypeInfo {
  QuantType type;
  int64_t elements;
  uint64_t bytes;
};

constexpr std::array kTypes = {
    TypeInfo{QuantType::kF32, 1, 4},    TypeInfo{QuantType::kF16, 1, 2},
    TypeInfo{QuantType::kBF16, 1, 2},   TypeInfo{QuantType::kQ8_0, 32, 34},
    TypeInfo{QuantType::kQ4_0, 32, 18}, TypeInfo{QuantType::kQ4_1, 32, 20},
};

/// GGUF's numbering up to its last entry; empty where a number was retired.
constexpr std::array<std::string_view, 31> kNames = {
    "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
    "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};

const TypeInfo& info(QuantType type) {
  for (const TypeInfo& candidate : kTypes) {
    if (candidate.type == type) return candidate;
  }
  HR_CHECK(false);
}

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

float load_float16(const std::byte* bytes) { return float16_to_float(load<uint16_t>(bytes)); }

void expand_q8_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  for (size_t i = 0; i < kBlock; ++i) {
    out[i] = scale * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

void expand_q4_0(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  for (size_t i = 0; i < kBlock / 2; ++i) {
    const int pair = std::to_integer<int>(block[2 + i]);
    out[i] = scale * static_cast<float>((pair & 15) - 8);
    out[i + kBlock / 2] = scale * static_cast<float>((pair >> 4) - 8);
  }
}

void expand_q4_1(const std::byte* block, float* out) {
  const float scale = load_float16(block);
  const float minimum = load_float16(block + 2);
  for (size_t i = 0; i < kBlock / 2; ++i) {
    const int pair = std::to_integer<int>(block[4 + i]);
    out[i] = scale * static_cast<float>(pair & 15) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(pair >> 4) + minimum;
  }
}

}  // namespace

std::optional<QuantType> quant_type_from_number(uint32_t number) {
  for (const TypeInfo& candidate : kTypes) {
    if (static_cast<uint32_t>(candidate.type) == number) return candidate.type;
  }
  return {};
}

std::string quant_type_name(uint32_t number) {
  if (number < kNames.size() && !kNames[number].empty()) return std::string(kNames[number]);
  return fmt::format("type {}", number);
}

int64_t block_elements(QuantType type) { return info(type).elements; }

uint64_t block_bytes(QuantType type) { return info(type).bytes; }

void dequantize(QuantType type, std::span<const std::byte> blocks, std::span<float> out) {
  const size_t elements = static_cast<size_t>(block_elements(type));
  const size_t bytes = block_bytes(type);
  HR_CHECK(out.size() % elements == 0 && blocks.size() == out.size() / elements * bytes);
  const std::byte* block = blocks.data();
  float* const end = out.data() + out.size();
  for (float* values = out.data(); values != end; values += elements, block += bytes) {
    switch (type) {
      case QuantType::kF32:
        *values = load<float>(block);
        break;
      case QuantType::kF16:
        *values = load_float16(block);
        break;
      case QuantType::kBF16:
        *values = bfloat16_to_float(load<uint16_t>(block));
        break;
      case QuantType::kQ8_0:
        expand_q8_0(block, values);
        break;
      case QuantType::kQ4_0:
        expand_q4_0(block, values);
        break;
      case QuantType::kQ4_1:
        expand_q4_1(block, values);
        break;
    }
  }
}

}  // namespace headrace
