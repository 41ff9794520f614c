#include "text/unicode.h"

#include <utf8proc.h>

#include "base/error.h"

namespace headrace::text {
namespace {

/// Length of a character by its first byte, and the allowed range of its second; 0 for bytes that
/// begin no character (Unicode standard, table 3-7).
struct Lead {
  size_t length;
  uint8_t second_min;
  uint8_t second_max;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

bool is_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

}  // namespace

Utf8Step utf8_step(std::string_view bytes) {
  HR_CHECK(!bytes.empty());
  const auto first = static_cast<uint8_t>(bytes[0]);
  const Lead lead = lead_of(first);
  if (lead.length == 0) return {Utf8Step::Kind::kInvalid, 1, 0};
  if (lead.length == 1) return {Utf8Step::Kind::kCharacter, 1, first};
  char32_t code = first & (0x7Fu >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8Step::Kind::kCut, i, 0};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Step::Kind::kInvalid, i, 0};
    code = code << 6 | (byte & 0x3Fu);
  }
  return {Utf8Step::Kind::kCharacter, lead.length, code};
}

bool is_valid_utf8(std::string_view bytes) {
  size_t position = 0;
  while (position < bytes.size()) {
    if (static_cast<uint8_t>(bytes[position]) < 0x80) {
      ++position;
      continue;
    }
    const Utf8Step step = utf8_step(bytes.substr(position));
    if (step.kind != Utf8Step::Kind::kCharacter) return false;
    position += step.length;
  }
  return true;
}

std::string repair_utf8(std::string_view bytes) {
  std::string rest(bytes);
  std::string out = take_certain_text(rest);
  if (!rest.empty()) out += kReplacementCharacter;
  return out;
}

std::string take_certain_text(std::string& pending) {
  std::string out;
  out.reserve(pending.size());
  const std::string_view bytes = pending;
  size_t position = 0;
  while (position < bytes.size()) {
    const Utf8Step step = utf8_step(bytes.substr(position));
    if (step.kind == Utf8Step::Kind::kCut) break;
    if (step.kind == Utf8Step::Kind::kCharacter) {
      out.append(bytes.substr(position, step.length));
    } else {
      out += kReplacementCharacter;
    }
    position += step.length;
  }
  pending.erase(0, position);
  return out;
}

void append_utf8(std::string& out, char32_t code) {
  const auto byte = [&out](char32_t value) { out.push_back(static_cast<char>(value)); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xC0 | code >> 6);
    byte(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    byte(0xE0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3F));
    byte(0x80 | (code & 0x3F));
  } else {
    byte(0xF0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3F));
    byte(0x80 | (code >> 6 & 0x3F));
    byte(0x80 | (code & 0x3F));
  }
}

char32_t first_code_point(std::string_view valid) { return utf8_step(valid).code; }

char32_t last_code_point(std::string_view valid) {
  HR_CHECK(!valid.empty());
  size_t start = valid.size() - 1;
  while (start > 0 && is_continuation(valid[start])) --start;
  return utf8_step(valid.substr(start)).code;
}

size_t utf8_length(char first_byte) {
  const size_t length = lead_of(static_cast<uint8_t>(first_byte)).length;
  return length == 0 ? 1 : length;
}

size_t count_code_points(std::string_view valid) {
  size_t count = 0;
  for (const char byte : valid) count += is_continuation(byte) ? 0 : 1;
  return count;
}

bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_numeric(char32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return false;
  }
}

bool is_word(char32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return code == 0x200C || code == 0x200D;
  }
}

}  // namespace headrace::text
