#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

/// "13.2 GB", "512.0 KB", "17 bytes": powers of 1000, one decimal.
std::string format_bytes(uint64_t bytes);

/// Seconds as HH:MM:SS.
std::string format_duration(double seconds);

/// Reads "6G", "1M", "64K", "4096", "1.5GiB": binary multiples. Error{kInvalidArgument} naming
/// `what` for anything else, for negative values and for values over 2^62.
uint64_t parse_bytes(std::string_view text, std::string_view what);

}  // namespace headrace
