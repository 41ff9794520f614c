#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace headrace::text {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

/// What begins at the front of some bytes.
struct Utf8Step {
  enum class Kind {
    kCharacter,  // a whole character: `length` bytes, `code`
    kInvalid,    // no continuation makes these `length` bytes valid (a maximal subpart)
    kCut,        // the bytes end inside a character that could still be completed
  };
  Kind kind;
  size_t length;  // at least 1
  char32_t code;  // of a character
};

/// Looks at the front of `bytes`. REQUIRES: not empty.
Utf8Step utf8_step(std::string_view bytes);

bool is_valid_utf8(std::string_view bytes);

/// `bytes` with every maximal invalid subpart replaced by one U+FFFD.
std::string repair_utf8(std::string_view bytes);

/// Moves all that is certain from the front of `pending` to the result: whole characters, and
/// U+FFFD for invalid subparts. An unfinished character (at most 3 bytes) stays.
std::string take_certain_text(std::string& pending);

void append_utf8(std::string& out, char32_t code);

/// Code point at the front. REQUIRES: valid UTF-8, not empty.
char32_t first_code_point(std::string_view valid);
/// Code point at the end. REQUIRES: valid UTF-8, not empty.
char32_t last_code_point(std::string_view valid);
/// Bytes of the character whose first byte this is. REQUIRES: a first byte of valid UTF-8.
size_t utf8_length(char first_byte);

/// Number of code points. REQUIRES: valid UTF-8.
size_t count_code_points(std::string_view valid);

bool is_space(char32_t code);    // property White_Space
bool is_numeric(char32_t code);  // categories Nd, Nl, No
bool is_word(char32_t code);     // letters, marks, decimal digits, connectors, joiners

}  // namespace headrace::text
