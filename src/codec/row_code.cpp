#include "codec/row_code.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace headrace {
namespace {

/// The bits of an element, apart.
struct Parts {
  uint8_t exponent = 0;
  uint8_t low = 0;
  uint8_t rest = 0;  // 3 bits; of float16 alone
};

Parts split(DType dtype, uint16_t bits) {
  if (dtype == DType::kBFloat16) {
    return {.exponent = static_cast<uint8_t>(bits >> 7),
            .low = static_cast<uint8_t>((bits >> 8 & 0x80) | (bits & 0x7f))};
  }
  return {.exponent = static_cast<uint8_t>(bits >> 10 & 0x1f),
          .low = static_cast<uint8_t>(bits),
          .rest = static_cast<uint8_t>((bits >> 13 & 4) | (bits >> 8 & 3))};
}

uint16_t join(DType dtype, const Parts& parts) {
  if (dtype == DType::kBFloat16) {
    return static_cast<uint16_t>((parts.low & 0x80) << 8 | parts.exponent << 7 |
                                 (parts.low & 0x7f));
  }
  return static_cast<uint16_t>((parts.rest & 4) << 13 | (parts.exponent & 0x1f) << 10 |
                               (parts.rest & 3) << 8 | parts.low);
}

int code_count(CodecId codec) { return codec == CodecId::kE3 ? 8 : 16; }

/// Largest exponent, of infinities and NaN.
uint8_t largest_exponent(DType dtype) { return dtype == DType::kBFloat16 ? 0xff : 0x1f; }

constexpr int kGroupColumns = static_cast<int>(RowLayout::kGroupChunks * RowLayout::kChunk);
using GroupBytes = std::array<uint8_t, kGroupColumns>;
using GroupWords = std::array<uint32_t, RowLayout::kGroupChunks * RowLayout::kLanes>;

/// Word and shift of a column's nibble, lane and element being parts of the column.
struct Place {
  size_t lane = 0;
  int shift = 0;
};
Place place_in_chunk(size_t column) {
  return {.lane = column / 8, .shift = static_cast<int>(column % 8) * 4};
}

/// Codes of `chunks` chunks, in column order, as words.
GroupWords pack(CodecId codec, int64_t chunks, const GroupBytes& codes) {
  GroupWords words = {};
  const auto planes = static_cast<size_t>(RowLayout::code_words(codec, chunks));
  for (size_t i = 0; i < static_cast<size_t>(chunks * RowLayout::kChunk); ++i) {
    const size_t chunk = i / RowLayout::kChunk;
    const Place place = place_in_chunk(i % RowLayout::kChunk);
    if (chunk < planes) {
      words[chunk * RowLayout::kLanes + place.lane] |= uint32_t{codes[i]} << place.shift;
      continue;
    }
    for (size_t bit = 0; bit < 3; ++bit) {
      words[bit * RowLayout::kLanes + place.lane] |= (codes[i] >> bit & 1u) << (place.shift + 3);
    }
  }
  return words;
}

GroupBytes unpack(CodecId codec, int64_t chunks, const GroupWords& words) {
  GroupBytes codes = {};
  const auto planes = static_cast<size_t>(RowLayout::code_words(codec, chunks));
  const uint32_t mask = static_cast<uint32_t>(code_count(codec) - 1);
  for (size_t i = 0; i < static_cast<size_t>(chunks * RowLayout::kChunk); ++i) {
    const size_t chunk = i / RowLayout::kChunk;
    const Place place = place_in_chunk(i % RowLayout::kChunk);
    uint32_t code = 0;
    if (chunk < planes) {
      code = words[chunk * RowLayout::kLanes + place.lane] >> place.shift & mask;
    } else {
      for (size_t bit = 0; bit < 3; ++bit) {
        code |= (words[bit * RowLayout::kLanes + place.lane] >> (place.shift + 3) & 1u) << bit;
      }
    }
    codes[i] = static_cast<uint8_t>(code);
  }
  return codes;
}

/// The parts of a group in a coded row, one after the other.
template <typename Byte>
struct GroupParts {
  GroupParts(const RowLayout& layout, int64_t group, Byte* row)
      : chunks(layout.chunks_of(group)),
        columns(static_cast<size_t>(chunks * RowLayout::kChunk)),
        word_bytes(
            static_cast<size_t>(RowLayout::code_words(layout.codec, chunks) * RowLayout::kLanes) *
            sizeof(uint32_t)),
        low(row + layout.group_offset(group)),
        codes(low + columns),
        rests(layout.dtype == DType::kFloat16 ? codes + word_bytes : nullptr) {}

  int64_t chunks;
  size_t columns;
  size_t word_bytes;  // of codes, and of rests
  Byte* low;
  Byte* codes;
  Byte* rests;  // null: there are none
};

GroupBytes unpack_from(const RowLayout& layout, int64_t chunks, const std::byte* from,
                       size_t word_bytes) {
  GroupWords words = {};
  std::memcpy(words.data(), from, word_bytes);
  return unpack(layout.codec, chunks, words);
}

}  // namespace

RowBook choose_book(CodecId codec, DType dtype, std::span<const uint16_t> row) {
  std::array<uint32_t, 256> counts = {};
  for (const uint16_t bits : row) ++counts[split(dtype, bits).exponent];
  std::array<uint8_t, 256> order;
  std::iota(order.begin(), order.end(), uint8_t{0});
  const auto most = order.begin() + code_count(codec) - 1;
  std::partial_sort(order.begin(), most, order.end(), [&](uint8_t a, uint8_t b) {
    return counts[a] != counts[b] ? counts[a] > counts[b] : a < b;
  });
  std::sort(order.begin(), most);
  RowBook book{.escapes = static_cast<int64_t>(row.size())};
  size_t code = 1;
  for (auto exponent = order.begin(); exponent != most; ++exponent) {
    book.exponents[code++] = *exponent;
    book.escapes -= counts[*exponent];
  }
  return book;
}

void encode_row(const RowLayout& layout, const RowBook& book, std::span<const uint16_t> row,
                std::byte* out) {
  const int codes_in_book = code_count(layout.codec);
  std::array<uint8_t, 256> code_of = {};
  for (int code = 1; code < codes_in_book; ++code) {
    code_of[book.exponents[static_cast<size_t>(code)]] = static_cast<uint8_t>(code);
  }
  // Of two exponents or more, one at most is the largest.
  const uint8_t padding = book.exponents[1] != largest_exponent(layout.dtype) ? 1 : 2;
  std::memset(out, 0, layout.stride_bytes);
  std::memcpy(out, book.exponents.data(), RowLayout::kBookBytes);
  std::byte* escape = out + RowLayout::kBookBytes;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const GroupParts<std::byte> parts(layout, g, out);
    const auto begin = static_cast<size_t>(g) * kGroupColumns;
    const size_t count = std::min(parts.columns, row.size() - begin);
    GroupBytes codes;
    GroupBytes rests = {};
    codes.fill(padding);
    for (size_t i = 0; i < count; ++i) {
      const Parts bits = split(layout.dtype, row[begin + i]);
      parts.low[i] = std::byte{bits.low};
      rests[i] = bits.rest;
      codes[i] = code_of[bits.exponent];
      if (codes[i] == 0) *escape++ = std::byte{bits.exponent};
    }
    std::memcpy(parts.codes, pack(layout.codec, parts.chunks, codes).data(), parts.word_bytes);
    if (parts.rests != nullptr) {
      std::memcpy(parts.rests, pack(layout.codec, parts.chunks, rests).data(), parts.word_bytes);
    }
  }
}

CodedRows encode_rows(CodecId codec, DType dtype, int64_t k, std::span<const uint16_t> rows) {
  const auto columns = static_cast<size_t>(k);
  std::vector<RowBook> books;
  int64_t escapes = 0;
  for (size_t at = 0; at < rows.size(); at += columns) {
    books.push_back(choose_book(codec, dtype, rows.subspan(at, columns)));
    escapes = std::max(escapes, books.back().escapes);
  }
  const uint64_t stride = RowLayout::stride_for(codec, dtype, k, static_cast<uint64_t>(escapes));
  const RowLayout layout = RowLayout::of(codec, dtype, k, stride);
  CodedRows coded{.stride_bytes = stride, .bytes = std::vector<std::byte>(books.size() * stride)};
  for (size_t r = 0; r < books.size(); ++r) {
    encode_row(layout, books[r], rows.subspan(r * columns, columns),
               coded.bytes.data() + r * stride);
  }
  return coded;
}

void decode_row(const RowLayout& layout, const std::byte* row, std::span<uint16_t> out) {
  std::array<uint8_t, RowLayout::kBookBytes> book;
  std::memcpy(book.data(), row, book.size());
  const std::byte* const escapes = row + RowLayout::kBookBytes;
  uint64_t next_escape = 0;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const GroupParts<const std::byte> parts(layout, g, row);
    const GroupBytes codes = unpack_from(layout, parts.chunks, parts.codes, parts.word_bytes);
    GroupBytes rests = {};
    if (parts.rests != nullptr) {
      rests = unpack_from(layout, parts.chunks, parts.rests, parts.word_bytes);
    }
    const auto begin = static_cast<size_t>(g) * kGroupColumns;
    const size_t count = std::min(parts.columns, out.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      uint8_t exponent = book[codes[i]];
      if (codes[i] == 0) {  // past the capacity: some byte of the row
        exponent = static_cast<uint8_t>(escapes[std::min(next_escape, layout.escape_capacity)]);
        ++next_escape;
      }
      out[begin + i] =
          join(layout.dtype,
               {.exponent = exponent, .low = static_cast<uint8_t>(parts.low[i]), .rest = rests[i]});
    }
  }
}

int64_t count_escapes(const RowLayout& layout, const std::byte* row) {
  int64_t escapes = 0;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const GroupParts<const std::byte> parts(layout, g, row);
    GroupWords words = {};
    std::memcpy(words.data(), parts.codes, parts.word_bytes);
    const auto planes = parts.word_bytes / sizeof(uint32_t);
    constexpr uint32_t kOnes = 0x11111111u;
    const bool spread = planes < static_cast<size_t>(parts.chunks * RowLayout::kLanes);
    const bool e4 = layout.codec == CodecId::kE4;
    for (size_t i = 0; i < planes; ++i) {
      const uint32_t w = words[i];
      const uint32_t used = (w | w >> 1 | w >> 2 | (e4 ? w >> 3 : 0)) & kOnes;
      escapes += 8 - std::popcount(used);
    }
    if (!spread) continue;
    for (size_t lane = 0; lane < RowLayout::kLanes; ++lane) {
      const uint32_t high =
          words[lane] | words[lane + RowLayout::kLanes] | words[lane + 2 * RowLayout::kLanes];
      escapes += 8 - std::popcount(high >> 3 & kOnes);
    }
  }
  return escapes;
}

bool escapes_fit(const RowLayout& layout, std::span<const std::byte> rows) {
  for (size_t at = 0; at < rows.size(); at += layout.stride_bytes) {
    const int64_t escapes = count_escapes(layout, rows.data() + at);
    if (static_cast<uint64_t>(escapes) > layout.escape_capacity) return false;
  }
  return true;
}

}  // namespace headrace
