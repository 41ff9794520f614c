#include "sampling/sampling_params.h"

#include <cmath>

#include "base/error.h"

namespace headrace {

void validate_sampling_params(const SamplingParams& params) {
  const auto refuse = [](const char* name, double value, const char* works) {
    fail(ErrorCode::kInvalidArgument, "[sampling] {} {} cannot be: use {}", name, value, works);
  };
  if (!(params.temperature >= 0) || !std::isfinite(params.temperature)) {
    refuse("temperature", params.temperature, "a number above 0, or 0 for greedy");
  }
  if (params.top_k < 0) refuse("top_k", params.top_k, "1 or more, or 0 for no limit");
  if (!(params.top_p >= 0 && params.top_p <= 1)) {
    refuse("top_p", params.top_p, "0.0 to 1.0");
  }
  if (!(params.repetition_penalty > 0) || !std::isfinite(params.repetition_penalty)) {
    refuse("repetition_penalty", params.repetition_penalty, "a number above 0; 1.0 means none");
  }
  if (!std::isfinite(params.presence_penalty)) {
    refuse("presence_penalty", params.presence_penalty, "a finite number; 0.0 means none");
  }
  if (!std::isfinite(params.frequency_penalty)) {
    refuse("frequency_penalty", params.frequency_penalty, "a finite number; 0.0 means none");
  }
  if (params.min_length < 0) refuse("min_length", params.min_length, "0 or more");
}

bool is_greedy(const SamplingParams& params) {
  return params.top_k == 1 || (params.top_k == 0 && params.top_p == 0) || params.temperature == 0;
}

}  // namespace headrace
