#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/row_layout.h"

namespace headrace {

/// The lossless code of a row of 16-bit elements: its exponents, of which a few are frequent,
/// become short codes. Scalar and obvious: the definition of the format, and its encoder. Decoders
/// of the backends are compared with it by bits.

/// The exponents that a row's codes stand for, and how many of its elements have another one.
struct RowBook {
  std::array<uint8_t, RowLayout::kBookBytes> exponents = {};  // by code, from 1 on, increasing
  int64_t escapes = 0;
};

/// The book of the row's most frequent exponents (7 for e3, 15 for e4; of equally frequent ones the
/// smaller). `row` holds the bit patterns of k elements.
RowBook choose_book(CodecId codec, DType dtype, std::span<const uint16_t> row);

/// Writes the row's code to `out`, of layout.stride_bytes. REQUIRES: `book` is choose_book() of
/// this row, whose escapes fit; row.size() == layout.k.
void encode_row(const RowLayout& layout, const RowBook& book, std::span<const uint16_t> row,
                std::byte* out);

/// Rows of one matrix as they are stored: one after the other.
struct CodedRows {
  uint64_t stride_bytes = 0;
  std::vector<std::byte> bytes = {};
};

/// Encodes rows of k elements each with the least stride that has room for the escapes of all.
/// REQUIRES: the codec is not raw, and fits the dtype.
CodedRows encode_rows(CodecId codec, DType dtype, int64_t k, std::span<const uint16_t> rows);

/// Restores the row's layout.k elements. Reads no byte beyond the row, whatever it holds.
void decode_row(const RowLayout& layout, const std::byte* row, std::span<uint16_t> out);

/// Elements of the row that have no code, those of padding included: a row that was encoded here
/// has no more than layout.escape_capacity.
int64_t count_escapes(const RowLayout& layout, const std::byte* row);

/// Whether none of the rows claims more escapes than it has room for. REQUIRES: `rows` holds whole
/// rows, one after the other.
bool escapes_fit(const RowLayout& layout, std::span<const std::byte> rows);

}  // namespace headrace
