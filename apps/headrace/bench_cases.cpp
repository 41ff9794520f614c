#include "headrace/bench_cases.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace headrace::app {
namespace {

constexpr int64_t kMaxCount = int64_t{1} << 31;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    std::string_view part = text.substr(0, end);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    parts.push_back(part);
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

template <typename T>
bool parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

int64_t parse_count(std::string_view text, std::string_view flag, std::string_view example) {
  int64_t value = 0;
  if (!parse(text, value)) {
    fail(ErrorCode::kUsage, "[bench] {}: '{}' is not a whole number: write it as in \"{}\"", flag,
         text, example);
  }
  if (value < 1 || value > kMaxCount) {
    fail(ErrorCode::kInvalidArgument, "[bench] {}: {} cannot be: use 1 or more", flag, value);
  }
  return value;
}

}  // namespace

std::vector<int64_t> parse_counts(std::string_view text, std::string_view flag) {
  std::vector<int64_t> counts;
  for (const std::string_view part : split(text, ';')) {
    counts.push_back(parse_count(part, flag, "1;32"));
  }
  return counts;
}

std::vector<InputOutputLength> parse_lengths(std::string_view text) {
  constexpr std::string_view kFlag = "--input_output_len";
  constexpr std::string_view kExample = "128,20;60,20";
  std::vector<InputOutputLength> lengths;
  for (const std::string_view part : split(text, ';')) {
    const std::vector<std::string_view> pair = split(part, ',');
    if (pair.size() != 2) {
      fail(ErrorCode::kUsage, "[bench] {}: '{}' is not a pair of numbers: write it as in \"{}\"",
           kFlag, part, kExample);
    }
    lengths.push_back({.input = parse_count(pair[0], kFlag, kExample),
                       .output = parse_count(pair[1], kFlag, kExample)});
  }
  return lengths;
}

std::vector<double> parse_percents(std::string_view text) {
  std::vector<double> percents;
  for (const std::string_view part : split(text, ';')) {
    double value = 0;
    if (!parse(part, value)) {
      fail(ErrorCode::kUsage,
           "[bench] --gpu_weights_percent: '{}' is not a number: write it as in \"0.0;0.3;1.0\"",
           part);
    }
    if (!(value >= 0 && value <= 1)) {
      fail(ErrorCode::kInvalidArgument,
           "[bench] --gpu_weights_percent only accepts values between 0.0 and 1.0.");
    }
    percents.push_back(value);
  }
  return percents;
}

std::optional<std::string> too_long(const InputOutputLength& length, const BuildConfig& engine) {
  if (length.input <= engine.max_input_len && length.input + length.output <= engine.max_seq_len) {
    return std::nullopt;
  }
  return fmt::format(
      "input_output_len {},{} skipped: the engine's max_input_len is {} and its max_seq_len {}",
      length.input, length.output, engine.max_input_len, engine.max_seq_len);
}

std::optional<std::string> too_many(int64_t batch_size, const BuildConfig& engine) {
  if (batch_size <= engine.max_batch_size) return std::nullopt;
  return fmt::format("batch_size {} skipped: the engine's max_batch_size is {}", batch_size,
                     engine.max_batch_size);
}

double percentile(std::vector<double> values, double percent) {
  HR_CHECK(!values.empty() && percent >= 0 && percent <= 100);
  std::sort(values.begin(), values.end());
  const double rank = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(rank));
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (rank - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace headrace::app
