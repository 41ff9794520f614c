#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/row_layout.h"
#include "engine/layout.h"
#include "engine/tile_coding.h"

namespace headrace {

/// Coded rows of made-up weights. Raw ones (synthetic.h) have two exponents, which no code would
/// find in a model; these are normally distributed, with a standard deviation of 0.02.

/// How tiles of a made-up matrix are stored if `codecs` are allowed: with the smallest of them.
MatrixCoding synthetic_coding(const TensorSpec& spec, DType dtype, std::span<const CodecId> codecs,
                              int64_t tile_rows);

/// Writes the coded row that belongs to `key` to `out`, of layout.stride_bytes.
void make_coded_row(const RowLayout& layout, uint64_t key, std::span<std::byte> out);

}  // namespace headrace
