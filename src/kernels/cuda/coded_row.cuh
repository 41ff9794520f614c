#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "codec/row_layout.h"

/// Rows of 16-bit weights in their code (codec/row_layout.h), as a warp decodes them: lane t owns the
/// columns 8t .. 8t + 7 of every chunk.
namespace headrace::cuda {

inline constexpr int kGroupChunks = static_cast<int>(RowLayout::kGroupChunks);
inline constexpr int kCodedChunk = static_cast<int>(RowLayout::kChunk);
inline constexpr int kGroupColumns = kGroupChunks * kCodedChunk;
inline constexpr int kBookBytes = static_cast<int>(RowLayout::kBookBytes);

/// Bytes of groups of a dtype and codec.
template <CodecId kCodec, typename T>
struct GroupShape {
  static constexpr bool kHasRests = sizeof(T) == 2 && !std::is_same_v<T, __nv_bfloat16>;
  static constexpr int kWordBytes = 32 * static_cast<int>(sizeof(uint32_t));  // of a warp
  static constexpr int kPlanes = kCodec == CodecId::kE3 ? kGroupChunks - 1 : kGroupChunks;
  static constexpr int kBytes =
      kGroupColumns + (kHasRests ? 2 : 1) * kPlanes * kWordBytes;  // of a whole group
  /// Of a group of `chunks`.
  static __device__ __forceinline__ int bytes(int chunks) {
    return chunks == kGroupChunks ? kBytes
                                  : chunks * (kCodedChunk + (kHasRests ? 2 : 1) * kWordBytes);
  }
};

/// Byte i of the result is the byte of {low, high} that nibble i of `selector` numbers; of a nibble with
/// its bit 3 set, that byte's sign all over. Only the selector's lower half counts.
__device__ __forceinline__ uint32_t select_bytes(uint32_t low, uint32_t high,
                                                 uint32_t selector) {
  uint32_t selected;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(selected) : "r"(low), "r"(high), "r"(selector));
  return selected;
}

/// The bits of `ones` where `mask` has ones, and of `zeros` elsewhere: one instruction, which the compiler
/// does not find.
__device__ __forceinline__ uint32_t select_bits(uint32_t mask, uint32_t ones, uint32_t zeros) {
  uint32_t selected;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(selected) : "r"(mask), "r"(ones), "r"(zeros));
  return selected;
}

/// value << by; 0 from 32 on.
__device__ __forceinline__ uint32_t shifted(uint32_t value, uint32_t by) {
  uint32_t result;
  asm("shl.b32 %0, %1, %2;" : "=r"(result) : "r"(value), "r"(by));
  return result;
}

/// An exponent byte of a book or of the escapes, where join() wants it.
template <typename T>
__device__ __forceinline__ uint32_t placed_exponents(uint32_t bytes) {
  return bytes;
}
template <>
__device__ __forceinline__ uint32_t placed_exponents<__half>(uint32_t bytes) {
  return (bytes & 0x1f1f1f1fu) << 2;
}

/// A row's book: looks the exponents of eight codes up, a byte each. Of code 0, 0. Rows whose books are
/// large also take add_large().
template <CodecId kCodec, typename T>
class CodeBook;

template <typename T>
class CodeBook<CodecId::kE3, T> {
 public:
  /// `book`: the row's first 16 bytes.
  __device__ __forceinline__ void read(const uint4& book) {
    low_ = placed_exponents<T>(book.x & ~0xffu);
    high_ = placed_exponents<T>(book.y);
  }
  /// Bit 3 of every nibble is clear.
  __device__ __forceinline__ void look_up(uint32_t codes, uint32_t (&exponents)[2]) const {
    exponents[0] = select_bytes(low_, high_, codes);
    exponents[1] = select_bytes(low_, high_, codes >> 16);
  }
  __device__ __forceinline__ bool is_large() const { return false; }
  __device__ __forceinline__ void add_large(uint32_t, uint32_t (&)[2]) const {}

 private:
  uint32_t low_;
  uint32_t high_;
};

/// A selector's bit 3 asks for a byte's sign, which is clear in tables of 7 bits: what is looked up in
/// the half of the book that a code is not of is 0. Books with exponents of 128 or more, of numbers of
/// 2 or more, are the large ones.
template <typename T>
class CodeBook<CodecId::kE4, T> {
 public:
  __device__ __forceinline__ void read(const uint4& book) {
    const uint32_t words[4] = {book.x & ~0xffu, book.y, book.z, book.w};
    large_ = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      tables_[i] = words[i] & 0x7f7f7f7fu;
      large_ |= (words[i] & 0x80808080u) >> (7 - i);
    }
  }
  __device__ __forceinline__ void look_up(uint32_t codes, uint32_t (&exponents)[2]) const {
    const uint32_t others = codes ^ 0x88888888u;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      exponents[h] = select_bytes(tables_[0], tables_[1], codes >> (16 * h)) |
                     select_bytes(tables_[2], tables_[3], others >> (16 * h));
    }
  }
  __device__ __forceinline__ bool is_large() const { return large_ != 0; }
  __device__ __forceinline__ void add_large(uint32_t codes, uint32_t (&exponents)[2]) const {
    if (large_ == 0) return;
#pragma unroll 1
    for (int e = 0; e < 4; ++e) {
      exponents[0] |= bit_of(codes >> (4 * e)) << (8 * e + 7);
      exponents[1] |= bit_of(codes >> (4 * e + 16)) << (8 * e + 7);
    }
  }

 private:
  /// The exponent's highest bit.
  __device__ __forceinline__ uint32_t bit_of(uint32_t code) const {
    return large_ >> (8 * (code & 3u) + (code >> 2 & 3u)) & 1u;
  }

  uint32_t tables_[4];
  uint32_t large_;  // bit 8b + i: whether the exponent of code 4i + b is 128 or more
};

/// Bit 4e + 3 says that element e has code 0.
template <CodecId kCodec>
__device__ __forceinline__ uint32_t zero_codes(uint32_t codes) {
  constexpr uint32_t kThree = 0x77777777u;
  if constexpr (kCodec == CodecId::kE3) return ~(codes + kThree) & 0x88888888u;
  return ~(((codes & kThree) + kThree) | codes) & 0x88888888u;
}

/// Eight elements of their parts: exponents as CodeBook gives them, low bytes in column order, rests
/// of 3 bits in nibbles.
template <typename T>
__device__ __forceinline__ uint4 join(const uint32_t (&exponents)[2], const uint2& low_bytes,
                                      uint32_t rests) {
  const uint32_t lows[2] = {low_bytes.x, low_bytes.y};
  uint32_t pairs[4];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    uint32_t low = lows[h];
    uint32_t high;
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      high = select_bits(0x80808080u, low, exponents[h] >> 1);
      low = select_bits(0x80808080u, exponents[h] << 7, low);
    } else {
      // Of the rests' 3 bits: the sign, and the two high bits of the mantissa.
      high = exponents[h] | select_bytes(0x03020100u, 0x83828180u, rests >> (16 * h));
    }
    pairs[2 * h] = select_bytes(low, high, 0x5140u);
    pairs[2 * h + 1] = select_bytes(low, high, 0x7362u);
  }
  return make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

/// Eight nibbles of 3 bits for each chunk of a group. `words` are the lane's, kLanes apart; chunks that
/// are not there hold ones.
template <int kPlanes>
__device__ __forceinline__ void read_nibbles(const uint32_t* words, int chunks, int lane,
                                             uint32_t (&nibbles)[kGroupChunks]) {
  constexpr uint32_t kMask = kPlanes < kGroupChunks ? 0x77777777u : 0xffffffffu;
  if (kPlanes == kGroupChunks || chunks < kGroupChunks) {
#pragma unroll
    for (int c = 0; c < kGroupChunks; ++c) {
      nibbles[c] = c < chunks ? words[c * 32 + lane] & kMask : 0x11111111u;
    }
    return;
  }
  const uint32_t w[3] = {words[lane], words[32 + lane], words[64 + lane]};
#pragma unroll
  for (int c = 0; c < 3; ++c) nibbles[c] = w[c] & kMask;
  nibbles[3] = (w[0] >> 3 & 0x11111111u) | (w[1] >> 2 & 0x22222222u) | (w[2] >> 1 & 0x44444444u);
}

/// A lane's codes of a group, and which of its elements have none.
template <CodecId kCodec, typename T>
struct LaneGroup {
  using Shape = GroupShape<kCodec, T>;

  uint32_t codes[kGroupChunks];
  uint32_t rests[kGroupChunks];  // of float16
  uint32_t zeros[kGroupChunks];
  int escapes_end[kGroupChunks];  // where the lane's escapes of the chunk end in the row's list

  /// `group` lies at a multiple of 8 bytes and has `chunks` chunks.
  __device__ __forceinline__ void read(const std::byte* group, int chunks, int lane) {
    const auto* words = reinterpret_cast<const uint32_t*>(group + chunks * kCodedChunk);
    read_nibbles<Shape::kPlanes>(words, chunks, lane, codes);
#pragma unroll
    for (int c = 0; c < kGroupChunks; ++c) zeros[c] = zero_codes<kCodec>(codes[c]);
    if constexpr (Shape::kHasRests) {
      words += (chunks == kGroupChunks ? Shape::kPlanes : chunks) * 32;
      read_nibbles<Shape::kPlanes>(words, chunks, lane, rests);
    }
  }

  /// Eight elements of chunk c, whose codes say all.
  __device__ __forceinline__ uint4 decode(const std::byte* group, int c, int lane,
                                          const CodeBook<kCodec, T>& book) const {
    uint32_t exponents[2];
    book.look_up(codes[c], exponents);
    return join_with(exponents, group, c, lane);
  }

  /// The same for any row; `escapes` holds the row's, `capacity` of them. Reads no other byte than those
  /// and the eight before them.
  __device__ __forceinline__ uint4 decode(const std::byte* group, int c, int lane,
                                          const CodeBook<kCodec, T>& book,
                                          const std::byte* escapes, int capacity) const {
    uint32_t exponents[2];
    book.look_up(codes[c], exponents);
    book.add_large(codes[c], exponents);
    const std::byte* escape = escapes + min(escapes_end[c], capacity);
    uint32_t left = zeros[c];
    // One is taken without asking if there is one: bit -1 adds nothing.
    add_last_escape(left, escape, exponents);
#pragma unroll 1
    while (left != 0) add_last_escape(left, escape, exponents);
    return join_with(exponents, group, c, lane);
  }

 private:
  static __device__ __forceinline__ void add_last_escape(uint32_t& left, const std::byte*& escape,
                                                         uint32_t (&exponents)[2]) {
    const int bit = 31 - __clz(static_cast<int>(left));
    left &= ~shifted(1u, static_cast<uint32_t>(bit));
    const uint32_t exponent = placed_exponents<T>(static_cast<uint32_t>(*--escape));
    const auto by = static_cast<uint32_t>(2 * bit - 6);
    exponents[0] |= shifted(exponent, by);
    exponents[1] |= shifted(exponent, by - 32);
  }
  __device__ __forceinline__ uint4 join_with(const uint32_t (&exponents)[2], const std::byte* group,
                                             int c, int lane) const {
    const uint2 low = *reinterpret_cast<const uint2*>(group + c * kCodedChunk + lane * 8);
    return join<T>(exponents, low, Shape::kHasRests ? rests[c] : 0);
  }
};

/// value + the same of the lane `kBy` lower, if there is one.
template <int kBy>
__device__ __forceinline__ uint32_t plus_lower_lane(uint32_t value) {
  uint32_t sum = value;
  asm volatile(
      "{\n"
      ".reg .pred there;\n"
      ".reg .u32 other;\n"
      "shfl.sync.up.b32 other|there, %1, %2, 0, 0xffffffff;\n"
      "@there add.u32 %0, %0, other;\n"
      "}"
      : "+r"(sum)
      : "r"(value), "n"(kBy));
  return sum;
}

/// Finds where each lane's escapes of a group are, if any lane has some: false if none. `first` of the
/// row's come before the group; it advances past the group's. Called by whole warps.
template <CodecId kCodec, typename T>
__device__ __forceinline__ bool number_escapes(LaneGroup<kCodec, T>& group, int& first) {
  constexpr uint32_t kAll = 0xffffffffu;
  constexpr uint32_t kEven = 0x00ff00ffu;
  const auto& zeros = group.zeros;
  if (__any_sync(kAll, (zeros[0] | zeros[1] | zeros[2] | zeros[3]) != 0) == 0) {
#pragma unroll
    for (int& end : group.escapes_end) end = first;
    return false;
  }
  // The four chunks' counts share a word: those of 31 lanes are at most 248 each.
  const auto own = static_cast<uint32_t>(__popc(zeros[0]) | __popc(zeros[1]) << 8 |
                                         __popc(zeros[2]) << 16 | __popc(zeros[3]) << 24);
  uint32_t sum = plus_lower_lane<1>(own);
  sum = plus_lower_lane<2>(sum);
  sum = plus_lower_lane<4>(sum);
  sum = plus_lower_lane<8>(sum);
  sum = plus_lower_lane<16>(sum);
  const uint32_t before = sum - own;
  // With the lane's own they can be 256: 16 bits each.
  const uint32_t even = (before & kEven) + (own & kEven);
  const uint32_t odd = (before >> 8 & kEven) + (own >> 8 & kEven);
  const uint32_t all_even = __shfl_sync(kAll, even, 31);
  const uint32_t all_odd = __shfl_sync(kAll, odd, 31);
  group.escapes_end[0] = first + static_cast<int>(even & 0xffffu);
  first += static_cast<int>(all_even & 0xffffu);
  group.escapes_end[1] = first + static_cast<int>(odd & 0xffffu);
  first += static_cast<int>(all_odd & 0xffffu);
  group.escapes_end[2] = first + static_cast<int>(even >> 16);
  first += static_cast<int>(all_even >> 16);
  group.escapes_end[3] = first + static_cast<int>(odd >> 16);
  first += static_cast<int>(all_odd >> 16);
  return true;
}

}  // namespace headrace::cuda
