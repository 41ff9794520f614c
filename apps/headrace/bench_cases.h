#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/build_config.h"

namespace headrace::app {

/// Prompt and output tokens of a case.
struct InputOutputLength {
  int64_t input = 128;
  int64_t output = 20;
};

/// "8;32": numbers of 1 or more. Error{kInvalidArgument} or {kUsage} naming `flag` otherwise.
std::vector<int64_t> parse_counts(std::string_view text, std::string_view flag);

/// "128,20;60,20": pairs of numbers of 1 or more.
std::vector<InputOutputLength> parse_lengths(std::string_view text);

/// "0.0;0.3;1.0": shares of the weights, 0.0 to 1.0.
std::vector<double> parse_percents(std::string_view text);

/// Why an engine cannot run prompts of these lengths, or batches of this size; nothing if it can.
std::optional<std::string> too_long(const InputOutputLength& length, const BuildConfig& engine);
std::optional<std::string> too_many(int64_t batch_size, const BuildConfig& engine);

/// The value below which `percent` percent of `values` lie, interpolated linearly between ranks (as
/// numpy.percentile does by default). REQUIRES: values is not empty; 0 <= percent <= 100.
double percentile(std::vector<double> values, double percent);

}  // namespace headrace::app
