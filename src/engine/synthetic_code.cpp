#include "engine/synthetic_code.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "codec/row_code.h"
#include "engine/format.h"
#include "engine/hash.h"
#include "tensor/float16.h"

namespace headrace {
namespace {

constexpr double kDeviation = 0.02;
constexpr size_t kQuantiles = 65536;
using Quantiles = std::array<uint16_t, kQuantiles>;

/// The z below which a share p of the normal distribution lies, p < 1/2.
double normal_quantile(double p) {
  double low = -8;
  double high = 0;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
  }
  return low;
}

Quantiles make_quantiles(DType dtype) {
  Quantiles quantiles;
  for (size_t i = 0; i < kQuantiles / 2; ++i) {
    const double z = normal_quantile((static_cast<double>(i) + 0.5) / kQuantiles);
    const auto value = static_cast<float>(z * kDeviation);
    const uint16_t bits =
        dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_float16(value);
    quantiles[i] = bits;
    quantiles[kQuantiles - 1 - i] = bits ^ 0x8000u;
  }
  return quantiles;
}

const Quantiles& quantiles_of(DType dtype) {
  static const Quantiles bfloat16 = make_quantiles(DType::kBFloat16);
  static const Quantiles float16 = make_quantiles(DType::kFloat16);
  return dtype == DType::kBFloat16 ? bfloat16 : float16;
}

/// Room for the escapes of all rows, at more than five standard deviations.
uint64_t escape_room(CodecId codec, int64_t k) {
  return static_cast<uint64_t>(codec == CodecId::kE3 ? k / 40 + 40 : 16);
}

std::vector<uint16_t> normal_row(DType dtype, int64_t k, uint64_t key) {
  const Quantiles& quantiles = quantiles_of(dtype);
  std::vector<uint16_t> row(static_cast<size_t>(k));
  for (size_t i = 0; i < row.size(); i += 4) {
    uint64_t bits = mix(key + (i / 4) * 0x9e3779b97f4a7c15u);
    for (size_t j = i; j < std::min(i + 4, row.size()); ++j, bits >>= 16) {
      row[j] = quantiles[bits & 0xffffu];
    }
  }
  return row;
}

}  // namespace

MatrixCoding synthetic_coding(const TensorSpec& spec, DType dtype, std::span<const CodecId> codecs,
                              int64_t tile_rows) {
  MatrixCoding coding;
  uint64_t least = row_stride_bytes(spec.k, dtype);
  for (const CodecId codec : codecs) {
    const uint64_t stride = RowLayout::stride_for(codec, dtype, spec.k, escape_room(codec, spec.k));
    if (stride >= least) continue;
    least = stride;
    const auto tiles = static_cast<size_t>((spec.rows + tile_rows - 1) / tile_rows);
    coding = {.codec = codec, .row_stride_bytes = stride, .coded = std::vector<bool>(tiles, true)};
  }
  return coding;
}

void make_coded_row(const RowLayout& layout, uint64_t key, std::span<std::byte> out) {
  for (uint64_t attempt = 0;; ++attempt) {  // of a million rows, fewer than one needs a second
    const std::vector<uint16_t> row = normal_row(layout.dtype, layout.k, mix(key + attempt));
    const RowBook book = choose_book(layout.codec, layout.dtype, row);
    if (static_cast<uint64_t>(book.escapes) > layout.escape_capacity) continue;
    encode_row(layout, book, row, out.data());
    return;
  }
}

}  // namespace headrace
