#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "sampling/likeliest.h"
#include "sampling/philox.h"
#include "sampling/softmax.h"

namespace headrace {
namespace {

constexpr size_t kFirstCandidates = 256;  // top_p looks at so many of the most likely tokens first

/// 0 means no limit, as 1 does.
float initial_top_p(const SamplingParams& params) { return params.top_p > 0 ? params.top_p : 1.0f; }

}  // namespace

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
                 std::span<const int32_t> end_ids, TokenConstraints constraints)
    : rules_(params, end_ids, std::move(constraints)),
      greedy_(is_greedy(params)),
      history_(rules_.start(prompt)),
      top_p_(initial_top_p(params)) {}

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
  if (rules_.changes(history_)) return 0;
  return greedy_ ? 1 : params().top_k;
}

SampledToken Sampler::sample_best(std::span<const int32_t> ids, std::span<const float> logits,
                                  float log_sum) {
  HR_CHECK(best_needed() == static_cast<int64_t>(ids.size()) && ids.size() == logits.size());
  if (!std::isfinite(log_sum)) {
    fail(ErrorCode::kInvalidArgument,
         "[sampling] a logit is not a number or infinite: the model's weights may be damaged "
         "(headrace inspect --verify)");
  }
  const size_t chosen = greedy_ ? 0 : draw_from_sorted(logits);
  const double log_prob = static_cast<double>(logits[chosen]) - static_cast<double>(logits[0]) -
                          static_cast<double>(log_sum);
  const SampledToken token = {.id = ids[chosen], .log_prob = static_cast<float>(log_prob)};
  add(token);
  return token;
}

void Sampler::add(const SampledToken& token) {
  cumulative_log_prob_ += static_cast<double>(token.log_prob);
  history_.add(token.id);
  if (params().top_p_decay == 1) return;
  top_p_ = token.id == params().top_p_reset_id
               ? initial_top_p(params())
               : std::max(top_p_ * params().top_p_decay, params().top_p_min);
}

/// Applies the rules to a copy; returns `logits` itself if there is nothing to apply.
std::span<const float> Sampler::adjust(std::span<const float> logits) {
  if (!rules_.changes(history_)) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  rules_.penalise(history_, adjusted_);
  rules_.exclude(history_, adjusted_);
  refuse_if_all_excluded(adjusted_);
  return adjusted_;
}

double Sampler::random() const {
  return uniform_at(params().random_seed, static_cast<uint64_t>(history_.length()));
}

/// Of the same unit as probabilities, the largest logit having 1.
double Sampler::weight(float logit, float maximum) const {
  return static_cast<double>(exp_nonpositive((logit - maximum) / params().temperature));
}

/// The weight with which a token is drawn from those that top_k and top_p left: min_p is last.
double Sampler::drawn_weight(float logit, float maximum) const {
  const double full = weight(logit, maximum);
  return full < static_cast<double>(params().min_p) ? 0 : full;
}

int32_t Sampler::draw(std::span<const float> logits, float maximum) {
  const auto k = static_cast<size_t>(params().top_k);
  if (k == 0 || k >= logits.size()) {
    return nucleus() ? draw_from_nucleus(logits, maximum)
                     : static_cast<int32_t>(draw_from_all(logits, maximum));
  }
  find_likeliest(logits, k, order_);
  best_.clear();
  for (const int32_t id : order_) best_.push_back(logits[static_cast<size_t>(id)]);
  return order_[draw_from_sorted(best_)];
}

/// Draws one of `logits`; returns its index.
size_t Sampler::draw_from_all(std::span<const float> logits, float maximum) const {
  double total = 0;
  for (const float logit : logits) total += drawn_weight(logit, maximum);
  // The same sums in the same order: the last of them is the total, which the threshold stays
  // below.
  const double threshold = random() * total;
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    sum += drawn_weight(logits[i], maximum);
    if (threshold < sum) return i;
  }
  check_failed("threshold < sum", __FILE__, __LINE__);
}

/// Draws one of `logits`, the largest first, or of their head that holds top_p; returns its index.
size_t Sampler::draw_from_sorted(std::span<const float> logits) const {
  if (!nucleus()) return draw_from_all(logits, logits[0]);
  double total = 0;
  for (const float logit : logits) total += weight(logit, logits[0]);
  const double wanted = static_cast<double>(top_p_) * total;
  double sum = 0;
  size_t kept = 0;
  while (kept < logits.size() && (kept == 0 || sum < wanted)) {
    sum += weight(logits[kept++], logits[0]);
  }
  return draw_from_all(logits.first(kept), logits[0]);
}

/// Without top_k: sorts the head of the list, a longer one each time, until it holds top_p.
int32_t Sampler::draw_from_nucleus(std::span<const float> logits, float maximum) {
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  double total = 0;
  for (const float logit : logits) total += weight(logit, maximum);
  const double wanted = static_cast<double>(top_p_) * total;
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
  return order_[draw_from_all(best_, maximum)];
}

}  // namespace headrace
