#include "sampling/sampling_params.h"

#include <cmath>

#include "base/error.h"

namespace headrace {
namespace {

[[noreturn]] void refuse(const char* name, double value, const char* works) {
  fail(ErrorCode::kInvalidArgument, "[sampling] {} {} cannot be: use {}", name, value, works);
}

void validate_penalties(const SamplingParams& params) {
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
  if (params.no_repeat_ngram_size < 0) {
    refuse("no_repeat_ngram_size", params.no_repeat_ngram_size, "1 or more, or 0 for none");
  }
}

void validate_limits(const SamplingParams& params) {
  if (params.top_k < 0) refuse("top_k", params.top_k, "1 or more, or 0 for no limit");
  if (!(params.top_p >= 0 && params.top_p <= 1)) refuse("top_p", params.top_p, "0.0 to 1.0");
  if (!(params.min_p >= 0 && params.min_p <= 1)) refuse("min_p", params.min_p, "0.0 to 1.0");
  if (!(params.top_p_decay > 0 && params.top_p_decay <= 1)) {
    refuse("top_p_decay", params.top_p_decay, "a number above 0, up to 1.0, which means none");
  }
  if (!(params.top_p_min > 0 && params.top_p_min <= 1)) {
    refuse("top_p_min", params.top_p_min, "a number above 0, up to 1.0");
  }
  if (params.top_p_reset_id < -1) {
    refuse("top_p_reset_id", params.top_p_reset_id, "a token id, or -1 for none");
  }
}

}  // namespace

void validate_sampling_params(const SamplingParams& params) {
  if (!(params.temperature >= 0) || !std::isfinite(params.temperature)) {
    refuse("temperature", params.temperature, "a number above 0, or 0 for greedy");
  }
  validate_limits(params);
  validate_penalties(params);
}

bool is_greedy(const SamplingParams& params) {
  return params.top_k == 1 || (params.top_k == 0 && params.top_p == 0) || params.temperature == 0;
}

}  // namespace headrace
