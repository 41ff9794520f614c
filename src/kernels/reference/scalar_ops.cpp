#include "kernels/reference/scalar_ops.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/numerics.h"
#include "tensor/float16.h"

namespace headrace::reference {

using namespace numerics;  // NOLINT(google-build-using-namespace): the formulas' constants

float load_element(DType dtype, const std::byte* data, int64_t index) {
  const std::byte* at = data + static_cast<size_t>(index) * dtype_size(dtype);
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return dtype == DType::kFloat16 ? float16_to_float(bits) : bfloat16_to_float(bits);
}

void store_element(DType dtype, std::byte* data, int64_t index, float value) {
  std::byte* at = data + static_cast<size_t>(index) * dtype_size(dtype);
  if (dtype == DType::kFloat32) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits =
      dtype == DType::kFloat16 ? float_to_float16(value) : float_to_bfloat16(value);
  std::memcpy(at, &bits, sizeof bits);
}

float tree_sum(std::span<float> values) {
  for (size_t half = values.size() / 2; half >= 1; half /= 2) {
    for (size_t j = 0; j < half; ++j) values[j] = values[j] + values[j + half];
  }
  return values[0];
}

float canonical_dot(DType dtype, const std::byte* w, const std::byte* x, int64_t k) {
  std::array<float, kPartials> partials{};
  for (int64_t i = 0; i < k; ++i) {
    float& partial = partials[static_cast<size_t>(i % kPartials)];
    partial = std::fma(load_element(dtype, w, i), load_element(dtype, x, i), partial);
  }
  return tree_sum(partials);
}

float canonical_square_sum(const float* x, int64_t count) {
  std::array<float, kPartials> partials{};
  for (int64_t i = 0; i < count; ++i) {
    float& partial = partials[static_cast<size_t>(i % kPartials)];
    partial = std::fma(x[i], x[i], partial);
  }
  return tree_sum(partials);
}

float exp(float x) {
  if (std::isnan(x)) return x;
  const float limited = x < kExpLowest ? kExpLowest : x > kExpHighest ? kExpHighest : x;
  const float n = std::fma(limited, kLog2E, kRoundMagic) - kRoundMagic;
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, limited));
  float p = kExpC6;
  p = std::fma(p, r, kExpC5);
  p = std::fma(p, r, kExpC4);
  p = std::fma(p, r, kExpC3);
  p = std::fma(p, r, kExpC2);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  // Times 2^n in two steps, each factor a normal number, so that only the second can round.
  const int whole = static_cast<int>(n);
  const int first = whole >> 1;
  const auto power = [](int e) { return std::bit_cast<float>((e + 127) << 23); };
  return p * power(first) * power(whole - first);
}

float silu(float x) { return x / (1.0f + exp(-x)); }

}  // namespace headrace::reference
