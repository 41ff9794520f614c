#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include "sampling/sampling_params.h"

namespace headrace::testing {

/// Logits without order and without ties.
inline std::vector<float> bumpy_logits(size_t size) {
  std::vector<float> logits;
  for (size_t i = 0; i < size; ++i) {
    logits.push_back(2 * std::sin(static_cast<float>(i) * 1.7f) - static_cast<float>(i % 5) * 0.3f);
  }
  return logits;
}

/// The values that the softmax sees: divided by the temperature, lowered by penalties for `counts`.
inline std::vector<double> penalised_values(std::span<const float> logits,
                                            const SamplingParams& params,
                                            const std::map<int32_t, int>& counts) {
  std::vector<double> values(logits.begin(), logits.end());
  for (double& value : values) value /= static_cast<double>(params.temperature);
  for (const auto& [id, count] : counts) {
    double& value = values[static_cast<size_t>(id)];
    const auto repetition = static_cast<double>(params.repetition_penalty);
    value = value < 0 ? value * repetition : value / repetition;
    value -= static_cast<double>(params.presence_penalty) +
             static_cast<double>(params.frequency_penalty) * count;
  }
  return values;
}

/// The distribution that the parameters describe, limit by limit, each time made to sum to 1, and
/// in double.
inline std::vector<double> exact_distribution(std::span<const float> logits,
                                              const SamplingParams& params,
                                              const std::map<int32_t, int>& counts = {}) {
  const std::vector<double> values = penalised_values(logits, params, counts);
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return values[a] > values[b]; });
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < order.size()) {
    order.resize(static_cast<size_t>(params.top_k));
  }
  const auto probabilities = [&] {
    std::vector<double> result;
    for (const size_t id : order) result.push_back(std::exp(values[id] - values[order[0]]));
    const double total = std::accumulate(result.begin(), result.end(), 0.0);
    for (double& probability : result) probability /= total;
    return result;
  };
  if (params.top_p > 0 && params.top_p < 1) {
    const std::vector<double> before = probabilities();
    size_t kept = 0;
    for (double sum = 0; kept < order.size() && sum < static_cast<double>(params.top_p);) {
      sum += before[kept++];
    }
    order.resize(kept);
  }
  std::vector<double> before = probabilities();
  while (before.back() < static_cast<double>(params.min_p) * before[0]) before.pop_back();
  order.resize(before.size());
  before = probabilities();
  std::vector<double> result(values.size());
  for (size_t i = 0; i < order.size(); ++i) result[order[i]] = before[i];
  return result;
}

}  // namespace headrace::testing
