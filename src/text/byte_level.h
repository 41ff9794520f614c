#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace headrace::text {

/// The alphabet of byte-level vocabularies (GPT-2): each of the 256 bytes is written as one visible
/// character. Bytes that Latin-1 prints ('!' to '~', U+00A1 to U+00AC, U+00AE to U+00FF) stand for
/// themselves; the others, in order, are U+0100, U+0101, ... Immutable.
class ByteAlphabet {
 public:
  ByteAlphabet();

  /// The bytes that `piece` spells; nothing if it has a character outside the alphabet.
  std::optional<std::string> bytes(std::string_view piece) const;

  /// The spelling of `bytes`.
  std::string spell(std::string_view bytes) const;

 private:
  static constexpr size_t kCodes = 0x100 + 256;
  std::array<char32_t, 256> code_of_byte_{};
  std::array<int16_t, kCodes> byte_of_code_{};  // -1: outside the alphabet
};

}  // namespace headrace::text
