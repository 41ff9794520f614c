#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headrace::jinja {

// Python's string functions on UTF-8. Case is mapped character by character (Unicode's simple
// mappings). REQUIRES: valid UTF-8.

enum class Side { kBoth, kLeft, kRight };

/// Strips white space, or the characters in `characters`.
std::string_view strip(std::string_view text, Side side,
                       std::optional<std::string_view> characters = std::nullopt);
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
/// The first character in upper case, the rest in lower case.
std::string capitalize(std::string_view text);
/// Every word capitalized, as str.title() does: a word is a run of letters.
std::string title(std::string_view text);
/// Replaces the first `count` occurrences, all of them if it is negative.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t count);
/// Splits at `separator`, or at runs of white space; at most `limit` times unless it is negative.
/// REQUIRES: the separator is not empty.
std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t limit);
/// The same from the end.
std::vector<std::string> split_from_right(std::string_view text,
                                          std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string> split_lines(std::string_view text);
/// Not empty and all characters of the class.
bool all_digits(std::string_view text);
bool all_letters(std::string_view text);
bool all_alphanumeric(std::string_view text);
bool all_space(std::string_view text);

}  // namespace headrace::jinja
