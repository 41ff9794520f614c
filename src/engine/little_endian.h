#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

namespace headrace {

/// Appends integers in little-endian order, whatever the host's.
class LittleEndianWriter {
 public:
  template <std::integral T>
  void put(T value) {
    auto bits = static_cast<std::make_unsigned_t<T>>(value);
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>((bits >> (8 * i)) & 0xffu));
    }
  }
  void put_bytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// Takes integers from the front of a span. REQUIRES: the span holds them.
class LittleEndianReader {
 public:
  explicit LittleEndianReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <std::integral T>
  T take() {
    std::make_unsigned_t<T> bits = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      const auto byte = static_cast<std::make_unsigned_t<T>>(bytes_[i]);
      bits = static_cast<std::make_unsigned_t<T>>(bits | (byte << (8 * i)));
    }
    bytes_ = bytes_.subspan(sizeof(T));
    return static_cast<T>(bits);
  }
  std::span<const std::byte> rest() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace headrace
