#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace headrace::testing {

/// Builds GGUF files byte by byte, so that tests can say what no writer would.
class GgufBytes {
 public:
  static constexpr uint32_t kUint32 = 4;
  static constexpr uint32_t kBool = 7;
  static constexpr uint32_t kString = 8;
  static constexpr uint32_t kArray = 9;
  static constexpr uint32_t kUint64 = 10;
  static constexpr uint32_t kTypeF32 = 0;

  GgufBytes(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    add(uint32_t{0x46554747}).add(version).add(tensors).add(keys);
  }

  template <typename T>
  GgufBytes& add(T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof value);
    return *this;
  }
  GgufBytes& text(std::string_view text) {
    add(uint64_t{text.size()});
    for (const char c : text) add(c);
    return *this;
  }
  GgufBytes& key(std::string_view name, uint32_t type) { return text(name).add(type); }
  GgufBytes& list(std::string_view name, uint32_t type, uint64_t count) {
    return key(name, kArray).add(type).add(count);
  }
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
                    uint64_t offset) {
    text(name).add(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t dimension : dimensions) add(dimension);
    return add(type).add(offset);
  }
  /// Pads to the default alignment and adds so many bytes of data.
  GgufBytes& data(size_t size) {
    bytes_.resize((bytes_.size() + 31) / 32 * 32 + size);
    return *this;
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace headrace::testing
