#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "sampling/philox.h"
#include "sampling/softmax.h"

namespace headrace {
namespace {

constexpr size_t kFirstCandidates = 256;  // top_p looks at so many of the most likely tokens first

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
                 std::span<const int32_t> end_ids)
    : params_((validate_sampling_params(params), params)),
      greedy_(is_greedy(params)),
      end_ids_(end_ids.begin(), end_ids.end()),
      position_(prompt.size()) {
  if (!penalised()) return;
  for (const int32_t id : prompt) ++counts_[id];
}

bool Sampler::penalised() const {
  return params_.repetition_penalty != 1 || params_.presence_penalty != 0 ||
         params_.frequency_penalty != 0;
}

SampledToken Sampler::sample(std::span<const float> logits) {
  const int32_t likeliest = argmax(logits);
  const std::span<const float> adjusted = adjust(logits);
  const bool changed = adjusted.data() != logits.data();
  SampledToken token{.id = changed ? argmax(adjusted) : likeliest};
  if (!greedy_) token.id = draw(adjusted, adjusted[static_cast<size_t>(token.id)]);
  const double log_sum = log_sum_exp(logits, logits[static_cast<size_t>(likeliest)]);
  token.log_prob =
      static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token.id)]) - log_sum);
  add(token);
  return token;
}

bool Sampler::takes_likeliest() const { return greedy_ && !penalised() && !suppresses_end(); }

void Sampler::take(const SampledToken& token) {
  HR_CHECK(takes_likeliest());
  if (!std::isfinite(token.log_prob)) {
    fail(ErrorCode::kInvalidArgument,
         "[sampling] a logit is not a number or infinite: the model's weights may be damaged "
         "(headrace inspect --verify)");
  }
  add(token);
}

void Sampler::add(const SampledToken& token) {
  cumulative_log_prob_ += static_cast<double>(token.log_prob);
  ++position_;
  ++generated_;
  if (penalised()) ++counts_[token.id];
}

/// Applies penalties and min_length to a copy; returns `logits` itself if there is nothing to
/// apply. The temperature comes later: additive penalties are multiplied by it here instead, which
/// is the same and spares a pass over the vocabulary.
std::span<const float> Sampler::adjust(std::span<const float> logits) {
  const bool suppress_end = suppresses_end();
  if (counts_.empty() && !suppress_end) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  const float scale = params_.temperature == 0 ? 1.0f : params_.temperature;
  for (const auto& [id, count] : counts_) {
    if (id < 0 || static_cast<size_t>(id) >= adjusted_.size()) continue;
    float& logit = adjusted_[static_cast<size_t>(id)];
    logit = logit < 0 ? logit * params_.repetition_penalty : logit / params_.repetition_penalty;
    logit -=
        scale * (params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count));
  }
  for (const int32_t id : suppress_end ? end_ids_ : std::vector<int32_t>{}) {
    if (id < 0 || static_cast<size_t>(id) >= adjusted_.size()) continue;
    adjusted_[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
  }
  return adjusted_;
}

int32_t Sampler::draw(std::span<const float> logits, float maximum) {
  const double random = uniform_at(params_.random_seed, position_);
  const bool all = params_.top_k == 0 || static_cast<size_t>(params_.top_k) >= logits.size();
  const bool nucleus = params_.top_p > 0 && params_.top_p < 1;
  return all && !nucleus ? draw_from_all(logits, maximum, random)
                         : draw_from_best(logits, maximum, random);
}

int32_t Sampler::draw_from_all(std::span<const float> logits, float maximum, double random) const {
  const auto weight = [&](float logit) {
    return static_cast<double>(exp_nonpositive((logit - maximum) / params_.temperature));
  };
  double total = 0;
  for (const float logit : logits) total += weight(logit);
  // The same sums in the same order: the last of them is the total, which the threshold stays
  // below.
  const double threshold = random * total;
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += weight(logits[i]);
    if (threshold < sum) return static_cast<int32_t>(i);
  }
  check_failed("threshold < sum", __FILE__, __LINE__);
}

int32_t Sampler::draw_from_best(std::span<const float> logits, float maximum, double random) {
  const auto weight = [&](int32_t id) {
    return static_cast<double>(
        exp_nonpositive((logits[static_cast<size_t>(id)] - maximum) / params_.temperature));
  };
  const auto likelier = [&](int32_t a, int32_t b) {
    const float logit_a = logits[static_cast<size_t>(a)];
    const float logit_b = logits[static_cast<size_t>(b)];
    return logit_a != logit_b ? logit_a > logit_b : a < b;
  };
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  const bool nucleus = params_.top_p > 0 && params_.top_p < 1;
  size_t limit = logits.size();
  double total = 0;
  if (params_.top_k > 0) {
    limit = std::min(limit, static_cast<size_t>(params_.top_k));
    std::nth_element(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(limit - 1),
                     order_.end(), likelier);
  }
  for (size_t i = 0; i < limit; ++i) total += weight(order_[i]);
  const double wanted = nucleus ? static_cast<double>(params_.top_p) * total : total;

  // Sorts the head of the list, a longer one each time, until it holds what is wanted.
  double sum = 0;
  size_t kept = 0;
  size_t sorted = 0;
  while (kept < limit && (kept == 0 || sum < wanted)) {
    if (kept == sorted) {
      const size_t next = std::min(limit, sorted == 0 ? kFirstCandidates : sorted * 4);
      const auto begin = order_.begin() + static_cast<ptrdiff_t>(sorted);
      const auto middle = order_.begin() + static_cast<ptrdiff_t>(next);
      const auto end = order_.begin() + static_cast<ptrdiff_t>(limit);
      if (middle != end) std::nth_element(begin, middle, end, likelier);
      std::sort(begin, middle, likelier);
      sorted = next;
    }
    sum += weight(order_[kept++]);
  }
  const double threshold = random * sum;
  double running = 0;
  for (size_t i = 0; i < kept; ++i) {
    running += weight(order_[i]);
    if (threshold < running) return order_[i];
  }
  check_failed("threshold < running", __FILE__, __LINE__);
}

}  // namespace headrace
