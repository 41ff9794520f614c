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

/// Orders token ids: the larger logit first, and of equal ones the smaller id.
class Likelier {
 public:
  explicit Likelier(std::span<const float> logits) : logits_(logits) {}
  bool operator()(int32_t a, int32_t b) const {
    const float logit_a = logits_[static_cast<size_t>(a)];
    const float logit_b = logits_[static_cast<size_t>(b)];
    return logit_a != logit_b ? logit_a > logit_b : a < b;
  }

 private:
  std::span<const float> logits_;
};

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

int64_t Sampler::best_needed() const {
  if (penalised() || suppresses_end()) return 0;
  return greedy_ ? 1 : params_.top_k;
}

SampledToken Sampler::sample_best(std::span<const int32_t> ids, std::span<const float> logits,
                                  float log_sum) {
  HR_CHECK(best_needed() == static_cast<int64_t>(ids.size()) && ids.size() == logits.size());
  if (!std::isfinite(log_sum)) {
    fail(ErrorCode::kInvalidArgument,
         "[sampling] a logit is not a number or infinite: the model's weights may be damaged "
         "(headrace inspect --verify)");
  }
  const size_t chosen =
      greedy_ ? 0 : draw_from_sorted(logits, uniform_at(params_.random_seed, position_));
  const double log_prob = static_cast<double>(logits[chosen]) - static_cast<double>(logits[0]) -
                          static_cast<double>(log_sum);
  const SampledToken token = {.id = ids[chosen], .log_prob = static_cast<float>(log_prob)};
  add(token);
  return token;
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

double Sampler::weight(float logit, float maximum) const {
  return static_cast<double>(exp_nonpositive((logit - maximum) / params_.temperature));
}

int32_t Sampler::draw(std::span<const float> logits, float maximum) {
  const double random = uniform_at(params_.random_seed, position_);
  const auto k = static_cast<size_t>(params_.top_k);
  if (k == 0 || k >= logits.size()) {
    return nucleus() ? draw_from_nucleus(logits, maximum, random)
                     : static_cast<int32_t>(draw_from_all(logits, maximum, random));
  }
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::partial_sort(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(k), order_.end(),
                    Likelier(logits));
  best_.clear();
  for (size_t i = 0; i < k; ++i) best_.push_back(logits[static_cast<size_t>(order_[i])]);
  return order_[draw_from_sorted(best_, random)];
}

/// Draws one of `logits`; returns its index.
size_t Sampler::draw_from_all(std::span<const float> logits, float maximum, double random) const {
  double total = 0;
  for (const float logit : logits) total += weight(logit, maximum);
  // The same sums in the same order: the last of them is the total, which the threshold stays
  // below.
  const double threshold = random * total;
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += weight(logits[i], maximum);
    if (threshold < sum) return i;
  }
  check_failed("threshold < sum", __FILE__, __LINE__);
}

/// Draws one of `logits`, the largest first, or of their head that holds top_p; returns its index.
size_t Sampler::draw_from_sorted(std::span<const float> logits, double random) const {
  if (!nucleus()) return draw_from_all(logits, logits[0], random);
  double total = 0;
  for (const float logit : logits) total += weight(logit, logits[0]);
  const double wanted = static_cast<double>(params_.top_p) * total;
  double sum = 0;
  size_t kept = 0;
  while (kept < logits.size() && (kept == 0 || sum < wanted)) {
    sum += weight(logits[kept++], logits[0]);
  }
  return draw_from_all(logits.first(kept), logits[0], random);
}

/// Without top_k: sorts the head of the list, a longer one each time, until it holds top_p.
int32_t Sampler::draw_from_nucleus(std::span<const float> logits, float maximum, double random) {
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  double total = 0;
  for (const float logit : logits) total += weight(logit, maximum);
  const double wanted = static_cast<double>(params_.top_p) * total;
  double sum = 0;
  size_t sorted = 0;
  best_.clear();
  while (best_.size() < order_.size() && (best_.empty() || sum < wanted)) {
    if (best_.size() == sorted) {
      const size_t next = std::min(order_.size(), sorted == 0 ? kFirstCandidates : sorted * 4);
      const auto begin = order_.begin() + static_cast<ptrdiff_t>(sorted);
      const auto middle = order_.begin() + static_cast<ptrdiff_t>(next);
      if (middle != order_.end()) std::nth_element(begin, middle, order_.end(), Likelier(logits));
      std::sort(begin, middle, Likelier(logits));
      sorted = next;
    }
    best_.push_back(logits[static_cast<size_t>(order_[best_.size()])]);
    sum += weight(best_.back(), maximum);
  }
  return order_[draw_from_all(best_, maximum, random)];
}

}  // namespace headrace
