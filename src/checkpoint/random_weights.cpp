#include "checkpoint/random_weights.h"

#include <cstring>

#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

/// The finalizer of splitmix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
/// Generators, 2014).
uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

// Four uniform values in 0..65535: mean of the sum 131070, variance 4 (65536^2 - 1) / 12.
constexpr int64_t kMean = 131070;
constexpr double kDeviation = 37837.22653;

template <typename T, typename Convert>
void fill(uint64_t state, float scale, std::span<std::byte> out, Convert&& convert) {
  const size_t count = out.size() / sizeof(T);
  for (size_t i = 0; i < count; ++i, state += kGolden) {
    const uint64_t bits = mix(state);
    const auto sum = static_cast<int64_t>((bits & 0xffffu) + ((bits >> 16) & 0xffffu) +
                                          ((bits >> 32) & 0xffffu) + (bits >> 48));
    const T value = convert(static_cast<float>(static_cast<int32_t>(sum - kMean)) * scale);
    std::memcpy(out.data() + i * sizeof(T), &value, sizeof(T));
  }
}

}  // namespace

void fill_random(uint64_t stream, uint64_t first, float standard_deviation, DType dtype,
                 std::span<std::byte> out) {
  const uint64_t state = stream + (first + 1) * kGolden;
  const auto scale = static_cast<float>(static_cast<double>(standard_deviation) / kDeviation);
  switch (dtype) {
    case DType::kFloat32:
      return fill<float>(state, scale, out, [](float value) { return value; });
    case DType::kFloat16:
      return fill<uint16_t>(state, scale, out, float_to_float16);
    case DType::kBFloat16:
      return fill<uint16_t>(state, scale, out, float_to_bfloat16);
  }
}

uint64_t random_stream(uint64_t seed, uint64_t index) { return mix(mix(seed + kGolden) + index); }

}  // namespace headrace
