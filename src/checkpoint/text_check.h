#pragma once

#include <string>
#include <string_view>

namespace headrace {

/// Whether `text` is well-formed UTF-8 (RFC 3629: no overlong forms, surrogates or values past
/// U+10FFFF).
bool is_utf8(std::string_view text);

/// A name out of a file, fit for one line of an error: control characters and bytes outside ASCII
/// become '?', and what is longer than 120 bytes is cut.
std::string printable(std::string_view text);

}  // namespace headrace
