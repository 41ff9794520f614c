#pragma once

#include <string>
#include <string_view>

namespace headrace {

/// Text from a file, made fit for an error message: in single quotes, what is not printable ASCII
/// as
/// '?', cut after 80 characters.
inline std::string quote(std::string_view text) {
  constexpr size_t kLongest = 80;
  std::string quoted = "'";
  for (const char c : text.substr(0, kLongest)) quoted += c >= ' ' && c <= '~' ? c : '?';
  return quoted + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace headrace
