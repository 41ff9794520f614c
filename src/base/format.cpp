#include "base/format.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace headrace {

std::string format_bytes(uint64_t bytes) {
  constexpr std::array kUnits = {"KB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  return fmt::format("{:02}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

uint64_t parse_bytes(std::string_view text, std::string_view what) {
  constexpr double kLimit = 4611686018427387904.0;  // 2^62
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  double factor = 1;
  const size_t unit = suffix.empty()
                          ? std::string_view::npos
                          : std::string_view("KMGT").find(static_cast<char>(suffix[0] & ~0x20));
  if (unit != std::string_view::npos) {
    factor = std::ldexp(1.0, 10 * static_cast<int>(unit + 1));
    suffix.remove_prefix(1);
    if (suffix.starts_with("i") || suffix.starts_with("I")) suffix.remove_prefix(1);
  }
  if (suffix == "B" || suffix == "b") suffix = {};
  const double bytes = value * factor;
  if (error != std::errc() || !suffix.empty() || !(bytes >= 0) || bytes > kLimit) {
    fail(ErrorCode::kInvalidArgument,
         "[{}] '{}' is not a size: use a number with K, M, G or T, as in 6G", what, text);
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace headrace
