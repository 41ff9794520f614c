#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace headrace {
namespace {

void check(bool holds, const char* name, double value, const char* range) {
  if (holds) return;
  fail(ErrorCode::kInvalidArgument, "[sampling] {} {} cannot be: use {}", name, value, range);
}

}  // namespace

void validate_sampling_params(const SamplingParams& params) {
  const auto in_range = [](double value, double low, double high) {
    return value >= low && value <= high;  // false for NaN
  };
  check(params.temperature > 0 && std::isfinite(params.temperature), "temperature",
        params.temperature, "a number above 0; top_k 1 is greedy");
  check(params.top_k >= 0, "top_k", params.top_k, "0 (no limit) or more");
  check(in_range(params.top_p, 0, 1), "top_p", params.top_p, "0.0 to 1.0");
  check(params.repetition_penalty > 0 && std::isfinite(params.repetition_penalty),
        "repetition_penalty", params.repetition_penalty, "a number above 0");
  check(std::isfinite(params.presence_penalty), "presence_penalty", params.presence_penalty,
        "a finite number");
  check(std::isfinite(params.frequency_penalty), "frequency_penalty", params.frequency_penalty,
        "a finite number");
}

double uniform_random(uint64_t seed, uint64_t step) {
  uint64_t z = seed * 0xd1342543de82ef95ull + (step + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt) : params_(params) {
  validate_sampling_params(params);
  for (const int32_t id : prompt) remember(id, false);
}

void Sampler::remember(int32_t id, bool generated) {
  HR_CHECK(id >= 0);
  const auto at = static_cast<size_t>(id);
  if (at >= counts_.size()) {
    counts_.resize(at + 1);
    is_seen_.resize(at + 1);
  }
  if (is_seen_[at] == 0) seen_.push_back(id);
  is_seen_[at] = 1;
  if (generated) ++counts_[at];
}

bool Sampler::penalised() const {
  return params_.repetition_penalty != 1.0 || params_.presence_penalty != 0.0 ||
         params_.frequency_penalty != 0.0;
}

/// Repetition: Keskar et al. 2019, section 4.1. Presence and frequency: as OpenAI documents them.
void Sampler::apply_penalties() {
  for (const int32_t id : seen_) {
    const auto at = static_cast<size_t>(id);
    if (at >= logits_.size()) continue;
    auto logit = static_cast<double>(logits_[at]);
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (counts_[at] > 0) {
      logit -= params_.presence_penalty + params_.frequency_penalty * counts_[at];
    }
    logits_[at] = static_cast<float>(logit);
  }
}

SampledToken Sampler::sample(std::span<const float> logits) {
  HR_CHECK(!logits.empty());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) {
      fail(ErrorCode::kCorrupt,
           "[sampling] logit {} of step {} is not a number: are the weights damaged?", i, step_);
    }
  }
  logits_.assign(logits.begin(), logits.end());
  if (penalised()) apply_penalties();

  const auto best = std::max_element(logits_.begin(), logits_.end());
  if (!std::isfinite(*best)) {
    fail(ErrorCode::kCorrupt, "[sampling] the largest logit of step {} is {}: are the weights damaged?",
         step_, *best);
  }
  const auto id = greedy() ? static_cast<int32_t>(best - logits_.begin()) : draw();
  ++step_;
  remember(id, true);
  return {.id = id, .log_prob = params_.log_probs ? log_prob(id, *best) : 0.0f};
}

/// The softmax's logarithm at the temperature that applies.
float Sampler::log_prob(int32_t id, float best) const {
  const double top = best;
  double total = 0;
  for (const float logit : logits_) total += std::exp((logit - top) / params_.temperature);
  const double chosen = logits_[static_cast<size_t>(id)];
  return static_cast<float>((chosen - top) / params_.temperature - std::log(total));
}

/// Leaves in candidates_ what top-k keeps, most likely first.
void Sampler::keep_top_k() {
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); ++i) {
    candidates_.push_back({.logit = logits_[i], .id = static_cast<int32_t>(i)});
  }
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  const auto k = static_cast<size_t>(params_.top_k);
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(),
                     before);
    candidates_.resize(k);
  }
  std::sort(candidates_.begin(), candidates_.end(), before);
}

/// How many candidates nucleus sampling keeps (Holtzman et al. 2019): the fewest whose share of
/// `total` reaches top_p.
size_t Sampler::count_top_p(double total) const {
  if (params_.top_p == 0.0 || params_.top_p == 1.0) return weights_.size();
  double sum = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    sum += weights_[i];
    if (sum >= params_.top_p * total) return i + 1;
  }
  return weights_.size();
}

int32_t Sampler::draw() {
  keep_top_k();
  weights_.clear();
  double total = 0;
  for (const Candidate& candidate : candidates_) {
    const double distance = static_cast<double>(candidate.logit) - candidates_[0].logit;
    weights_.push_back(std::exp(distance / params_.temperature));
    total += weights_.back();
  }
  const size_t kept = count_top_p(total);
  double kept_total = 0;
  for (size_t i = 0; i < kept; ++i) kept_total += weights_[i];
  double target = uniform_random(params_.random_seed, step_) * kept_total;
  for (size_t i = 0; i < kept; ++i) {
    target -= weights_[i];
    if (target < 0) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

}  // namespace headrace
