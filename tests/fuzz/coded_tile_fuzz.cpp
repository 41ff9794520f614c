// The rows of a coded tile that no encoder wrote. Input: u8 codec and dtype, u16 columns, u8 rows,
// u16 escapes that have room, u8 token rows (little endian), then the tile's bytes, again and again
// until it is full; its checksum is made to fit. Whatever they are, what reads rows reads nothing
// else: every row is in memory that ends where it ends. What decodes rows that pass the check of
// arriving tiles agrees.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <xxhash.h>

#include "base/error.h"
#include "codec/row_code.h"
#include "engine/little_endian.h"
#include "engine/manifest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/few_tokens.h"
#include "stream/tile_check.h"

namespace headrace {
namespace {

struct Tile {
  RowLayout layout;
  int64_t rows = 0;
  int64_t tokens = 0;
  std::vector<std::byte> bytes;  // no more than the rows

  std::span<const std::byte> row(int64_t r) const {
    return std::span(bytes).subspan(static_cast<size_t>(r) * layout.stride_bytes,
                                    layout.stride_bytes);
  }
};

Tile take_tile(LittleEndianReader& in) {
  constexpr std::pair<CodecId, DType> kCodecs[] = {{CodecId::kE3, DType::kBFloat16},
                                                   {CodecId::kE4, DType::kBFloat16},
                                                   {CodecId::kE3, DType::kFloat16}};
  const auto [codec, dtype] = kCodecs[in.take<uint8_t>() % std::size(kCodecs)];
  const int64_t k = 1 + in.take<uint16_t>() % 3000;
  Tile tile;
  tile.rows = 1 + in.take<uint8_t>() % 10;  // up to more than are decoded at a time
  const uint64_t escapes = in.take<uint16_t>() % (static_cast<uint64_t>(k) + 300);
  tile.tokens = 1 + in.take<uint8_t>() % cpu::kFewTokens;
  const uint64_t stride = RowLayout::stride_for(codec, dtype, k, escapes);
  HR_CHECK(RowLayout::fits(codec, dtype, k, stride));
  tile.layout = RowLayout::of(codec, dtype, k, stride);
  tile.bytes.resize(static_cast<size_t>(tile.rows) * stride);
  const std::span<const std::byte> forged = in.rest();
  for (size_t at = 0; at < tile.bytes.size() && !forged.empty(); at += forged.size()) {
    std::copy_n(forged.begin(), std::min(forged.size(), tile.bytes.size() - at),
                tile.bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return tile;
}

/// Whether the tile may be used once it has arrived.
bool passes_check(const Tile& tile) {
  Manifest manifest;
  manifest.matrices = {{.rows = tile.rows,
                        .k = tile.layout.k,
                        .dtype = tile.layout.dtype,
                        .first_tile = 0,
                        .tile_count = 1}};
  manifest.tiles = {{.rows = tile.rows,
                     .codec = tile.layout.codec,
                     .row_stride_bytes = static_cast<uint32_t>(tile.layout.stride_bytes),
                     .stored_bytes = tile.bytes.size(),
                     .xxh3 = XXH3_64bits(tile.bytes.data(), tile.bytes.size())}};
  TileCheck check(manifest, "fuzz", VerifyMode::kFirst);
  const std::optional<Error> error = check.check(0, 1, tile.bytes.data(), 0);
  HR_CHECK(!error || error->code() == ErrorCode::kCorrupt);
  return !error;
}

/// Escapes of a row, counted in what is decoded of the same codes where all escapes have room: of
/// all exponents those of the escapes alone are 0.
int64_t decoded_escapes(const RowLayout& layout, std::span<const std::byte> row) {
  const int64_t columns = cpu::decoded_elements(layout.k);
  const uint64_t stride =
      RowLayout::stride_for(layout.codec, layout.dtype, layout.k, static_cast<uint64_t>(columns));
  const RowLayout roomy = RowLayout::of(layout.codec, layout.dtype, layout.k, stride);
  std::vector<std::byte> copy(stride);
  std::fill_n(copy.begin(), RowLayout::kBookBytes, std::byte{1});
  std::copy(row.begin() + static_cast<std::ptrdiff_t>(layout.groups_offset), row.end(),
            copy.begin() + static_cast<std::ptrdiff_t>(roomy.groups_offset));
  std::vector<uint16_t> decoded(static_cast<size_t>(columns));
  decode_row(roomy, copy.data(), decoded);
  const uint16_t exponent = layout.dtype == DType::kBFloat16 ? 0x7f80 : 0x7c00;
  return std::ranges::count_if(decoded, [&](uint16_t bits) { return (bits & exponent) == 0; });
}

using Decoded = std::vector<uint16_t>;  // a row, with its padding

/// The row as decode_row() restores it. Every decoder of this processor restores the same, if the
/// row is `valid`.
Decoded decode(const RowLayout& layout, std::span<const std::byte> bytes, bool valid) {
  const std::vector<std::byte> row(bytes.begin(), bytes.end());
  Decoded expected(static_cast<size_t>(cpu::decoded_elements(layout.k)));
  decode_row(layout, row.data(), expected);
  for (const cpu::CodedKernels* kernels : cpu::coded_kernels_for(detect_cpu_isa())) {
    Decoded decoded(expected.size());
    kernels->decode(layout, row.data(), reinterpret_cast<std::byte*>(decoded.data()));
    HR_CHECK(!valid || decoded == expected);
  }
  return expected;
}

/// Whether the columns past k are what every encoder writes there: only then do they not count.
bool has_neutral_padding(const RowLayout& layout, const Decoded& row) {
  const uint16_t largest = layout.dtype == DType::kBFloat16 ? 0x7f80 : 0x7c00;
  return std::all_of(row.begin() + layout.k, row.end(), [&](uint16_t bits) {
    return (bits & 0x8000) == 0 && (bits & largest) != largest;
  });
}

/// Moderate numbers of both signs.
std::vector<uint16_t> make_x(DType dtype, int64_t count) {
  std::vector<uint16_t> x(static_cast<size_t>(count));
  uint32_t noise = 1;
  for (uint16_t& bits : x) {
    noise = noise * 1664525 + 1013904223;
    const uint32_t random = noise >> 16;
    bits = static_cast<uint16_t>(dtype == DType::kBFloat16 ? 0x3f00 | (random & 0x80ff)
                                                           : 0x3800 | (random & 0x83ff));
  }
  return x;
}

/// The product of `rows`, raw or coded, with x.
std::vector<float> multiply(const cpu::CodedKernels& coded, cpu::MatrixRows rows, CodecId codec,
                            const std::vector<uint16_t>& x) {
  const cpu::FewTokens few{.kernels = cpu::best_kernels(), .coded = coded};
  const auto floats = static_cast<size_t>(rows.tokens * cpu::decoded_elements(rows.k));
  std::vector<float> packed(floats);
  std::vector<float> reordered(floats);
  const WeightRun run{.data = rows.weights,
                      .rows = rows.rows,
                      .row_stride_bytes = rows.row_stride_bytes,
                      .codec = codec};
  cpu::FewTokensX forms{.packed = packed.data(), .reordered = reordered.data()};
  few.prepare_x(std::span(&run, 1), rows.dtype, reinterpret_cast<const std::byte*>(x.data()),
                static_cast<size_t>(rows.k) * 2, rows.tokens, rows.k, forms);
  std::vector<float> out(static_cast<size_t>(rows.tokens * rows.rows));
  rows.out = out.data();
  rows.stride = rows.rows;
  few.multiply(rows, forms);
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) ||
           (std::isnan(x) && std::isnan(y));
  });
}

/// Products of the coded tile, fused or decoded first, are those of `raw` rows if these are what
/// the tile holds (`comparable`).
void check_products(const Tile& tile, const std::vector<Decoded>& raw, bool comparable) {
  const RowLayout& layout = tile.layout;
  const std::vector<uint16_t> x = make_x(layout.dtype, tile.tokens * layout.k);
  std::vector<uint16_t> elements;  // end where the last row's do
  for (const Decoded& row : raw) elements.insert(elements.end(), row.begin(), row.end());
  cpu::MatrixRows rows{.dtype = layout.dtype,
                       .weights = reinterpret_cast<const std::byte*>(elements.data()),
                       .row_stride_bytes = raw[0].size() * 2,
                       .rows = tile.rows,
                       .k = layout.k,
                       .tokens = tile.tokens};
  const std::vector<float> expected =
      multiply(*cpu::portable_coded_kernels(), rows, CodecId::kRaw, x);
  rows.weights = tile.bytes.data();
  rows.row_stride_bytes = layout.stride_bytes;
  std::vector<float> scratch(static_cast<size_t>(cpu::RowDecoder::scratch_floats(layout.k)));
  for (const cpu::CodedKernels* kernels : cpu::coded_kernels_for(detect_cpu_isa())) {
    const cpu::RowDecoder decoder{.kernels = *kernels,
                                  .layout = layout,
                                  .decoded = reinterpret_cast<std::byte*>(scratch.data())};
    rows.decoder = &decoder;
    const std::vector<float> product = multiply(*kernels, rows, layout.codec, x);
    HR_CHECK(!comparable || same(product, expected));
  }
}

void read(std::span<const std::byte> data) {
  if (data.size() < 7) return;
  LittleEndianReader in(data);
  const Tile tile = take_tile(in);
  bool valid = true;
  bool neutral = true;
  std::vector<Decoded> raw;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const std::vector<std::byte> row(tile.row(r).begin(), tile.row(r).end());
    const int64_t escapes = count_escapes(tile.layout, row.data());
    HR_CHECK(escapes == decoded_escapes(tile.layout, row));
    const bool fits = static_cast<uint64_t>(escapes) <= tile.layout.escape_capacity;
    raw.push_back(decode(tile.layout, row, fits));
    valid = valid && fits;
    neutral = neutral && has_neutral_padding(tile.layout, raw.back());
  }
  HR_CHECK(passes_check(tile) == valid);
  check_products(tile, raw, valid && neutral);
}

}  // namespace
}  // namespace headrace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    headrace::read(std::as_bytes(std::span(data, size)));
  } catch (const headrace::Error&) {  // nothing here may be refused but by the check
    __builtin_trap();
  }
  return 0;
}
