#include "text/byte_level.h"

#include "text/unicode.h"

namespace headrace::text {

ByteAlphabet::ByteAlphabet() {
  byte_of_code_.fill(-1);
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool visible =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t code = visible ? byte : next++;
    code_of_byte_[byte] = code;
    byte_of_code_[code] = static_cast<int16_t>(byte);
  }
}

std::optional<std::string> ByteAlphabet::bytes(std::string_view piece) const {
  std::string out;
  out.reserve(piece.size());
  while (!piece.empty()) {
    const Utf8Step step = utf8_step(piece);
    if (step.kind != Utf8Step::Kind::kCharacter || step.code >= kCodes) return std::nullopt;
    const int16_t byte = byte_of_code_[step.code];
    if (byte < 0) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    piece.remove_prefix(step.length);
  }
  return out;
}

std::string ByteAlphabet::spell(std::string_view bytes) const {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(out, code_of_byte_[static_cast<uint8_t>(byte)]);
  return out;
}

}  // namespace headrace::text
