#include "sampling/beam_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "base/error.h"
#include "sampling/likeliest.h"
#include "sampling/softmax.h"

namespace headrace {
namespace {

constexpr float kExcluded = -std::numeric_limits<float>::infinity();

/// So many continuations that beam_width of them do not end, unless all of a beam's do.
size_t count_candidates(const BeamSearchOptions& options, size_t ends) {
  return std::max<size_t>(2, 1 + ends) * static_cast<size_t>(options.beam_width);
}

}  // namespace

void validate_beam_search_options(const BeamSearchOptions& options) {
  const auto refuse = [](const char* name, auto value, const char* works) {
    fail(ErrorCode::kInvalidArgument, "[beam search] {} {} cannot be: use {}", name, value, works);
  };
  if (options.beam_width < 1) refuse("beam_width", options.beam_width, "1 or more");
  if (options.max_new_tokens < 1) refuse("max_new_tokens", options.max_new_tokens, "1 or more");
  if (!std::isfinite(options.length_penalty)) {
    refuse("length_penalty", options.length_penalty, "a finite number; 0.0 compares plain sums");
  }
  if (!std::isfinite(options.diversity_rate)) {
    refuse("diversity_rate", options.diversity_rate, "a finite number; 0.0 means none");
  }
}

BeamSearch::BeamSearch(const BeamSearchOptions& options, const SamplingParams& params,
                       std::span<const int32_t> prompt, std::span<const int32_t> end_ids,
                       TokenConstraints constraints)
    : options_((validate_beam_search_options(options), options)),
      rules_(params, end_ids, std::move(constraints)),
      end_ids_(end_ids.begin(), end_ids.end()),
      candidates_wanted_(
          count_candidates(options_, end_ids_.size() + rules_.constraints().stop_words.size())),
      finished_(static_cast<size_t>(options_.beam_width), options_.max_new_tokens,
                options_.length_penalty, options_.early_stopping) {
  beams_.push_back({.history = rules_.start(prompt)});
}

void BeamSearch::restart(std::span<const int32_t> prompt) {
  beams_.clear();
  beams_.push_back({.history = rules_.start(prompt)});
  finished_ = FinishedBeams(static_cast<size_t>(options_.beam_width), options_.max_new_tokens,
                            options_.length_penalty, options_.early_stopping);
  done_ = false;
  rows_given_ = 0;
  candidates_.clear();
}

void BeamSearch::add_logits(std::span<const float> logits) {
  HR_CHECK(rows_given_ < beams_.size() && !done_);
  float maximum = logits[static_cast<size_t>(argmax(logits))];
  const std::span<const float> scaled = adjust(logits);
  if (scaled.data() != logits.data()) maximum = *std::ranges::max_element(scaled);
  if (maximum > kExcluded) {
    const auto log_sum =
        static_cast<float>(log_sum_exp(scaled, maximum) - static_cast<double>(maximum));
    // Exclusions change no other token's log probability: they come after the sum.
    const TokenHistory& history = beams_[rows_given_].history;
    if (rules_.changes(history)) rules_.exclude(history, adjusted_);
    find_likeliest(scaled, candidates_wanted_, order_);
    for (const int32_t id : order_) {
      add_candidate(id, (scaled[static_cast<size_t>(id)] - maximum) - log_sum);
    }
  }
  ++rows_given_;
}

/// Applies bias, penalties and temperature to a copy; returns `logits` itself if there is nothing
/// to apply, nor to exclude.
std::span<const float> BeamSearch::adjust(std::span<const float> logits) {
  const TokenHistory& history = beams_[rows_given_].history;
  const float temperature = rules_.params().temperature;
  const bool divides = temperature != 0 && temperature != 1;
  if (!divides && !rules_.changes(history)) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  rules_.penalise(history, adjusted_);
  const float maximum = *std::ranges::max_element(adjusted_);
  if (!divides || maximum == kExcluded) return adjusted_;
  // Only differences matter, and those cannot overflow upwards.
  for (float& logit : adjusted_) logit = (logit - maximum) / temperature;
  return adjusted_;
}

int64_t BeamSearch::best_needed() const {
  const float temperature = rules_.params().temperature;
  const bool changes = std::ranges::any_of(
      beams_, [this](const Beam& beam) { return rules_.changes(beam.history); });
  if (changes || (temperature != 0 && temperature != 1)) return 0;
  return static_cast<int64_t>(candidates_wanted_);
}

void BeamSearch::add_best(std::span<const int32_t> ids, std::span<const float> logits,
                          float log_sum) {
  HR_CHECK(rows_given_ < beams_.size() && !done_);
  HR_CHECK(best_needed() == static_cast<int64_t>(ids.size()) && ids.size() == logits.size());
  if (!std::isfinite(log_sum)) {
    fail(ErrorCode::kInvalidArgument,
         "[beam search] a logit is not a number or infinite: the model's weights may be damaged "
         "(headrace inspect --verify)");
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    add_candidate(ids[i], (logits[i] - logits[0]) - log_sum);
  }
  ++rows_given_;
}

void BeamSearch::add_candidate(int32_t token, float log_prob) {
  const float sum = beams_[rows_given_].sum + log_prob;
  if (sum == kExcluded) return;
  const auto parent = static_cast<int32_t>(rows_given_);
  candidates_.push_back({.step = {.parent = parent, .token = token, .log_prob = log_prob},
                         .sum = sum,
                         .rank = sum + options_.diversity_rate * static_cast<float>(parent),
                         .place = static_cast<int32_t>(candidates_.size())});
}

std::span<const BeamStep> BeamSearch::advance() {
  HR_CHECK(rows_given_ == beams_.size() && !done_);
  rows_given_ = 0;
  steps_.clear();
  if (candidates_.empty() && finished_.all().empty()) {
    fail(ErrorCode::kInvalidArgument,
         "[beam search] all tokens of all beams are excluded: loosen bad_words, "
         "no_repeat_ngram_size, min_length or embedding_bias");
  }
  rank_candidates();
  const auto width = static_cast<size_t>(options_.beam_width);
  const auto length = static_cast<int64_t>(beams_.front().tokens.size()) + 1;
  const bool last = length >= options_.max_new_tokens;
  float best_sum = kExcluded;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i >= width && (last || steps_.size() == width)) break;  // ends() looks at all stop words
    const Candidate& candidate = candidates_[i];
    BeamEnd end = BeamEnd::kLength;
    if (ends(candidate.step, end)) {
      if (i < width) finish(candidate, end);
    } else {
      steps_.push_back(candidate.step);
      best_sum = std::max(best_sum, candidate.sum);
    }
  }
  candidates_.clear();
  continue_beams();
  done_ = steps_.empty() ||
          finished_.settled(best_sum, static_cast<int64_t>(beams_.front().tokens.size()));
  if (done_) steps_.clear();
  return steps_;
}

/// Sorts the best candidates and forgets the others.
void BeamSearch::rank_candidates() {
  const size_t kept = std::min(candidates_wanted_, candidates_.size());
  const auto middle = candidates_.begin() + static_cast<ptrdiff_t>(kept);
  std::partial_sort(candidates_.begin(), middle, candidates_.end(),
                    [](const Candidate& a, const Candidate& b) {
                      return a.rank != b.rank ? a.rank > b.rank : a.place < b.place;
                    });
  candidates_.erase(middle, candidates_.end());
}

/// True, and why in `end`, if the output that `step` makes is complete.
bool BeamSearch::ends(const BeamStep& step, BeamEnd& end) {
  std::vector<int32_t>& tokens = beams_[static_cast<size_t>(step.parent)].tokens;
  if (std::ranges::find(end_ids_, step.token) != end_ids_.end()) {
    end = BeamEnd::kEndId;
    return true;
  }
  tokens.push_back(step.token);
  const bool stops = ends_with_word(tokens, rules_.constraints().stop_words);
  tokens.pop_back();
  end = stops ? BeamEnd::kStopWord : BeamEnd::kLength;
  return stops || static_cast<int64_t>(tokens.size()) + 1 >= options_.max_new_tokens;
}

void BeamSearch::finish(const Candidate& candidate, BeamEnd end) {
  const Beam& parent = beams_[static_cast<size_t>(candidate.step.parent)];
  BeamHypothesis hypothesis = {.tokens = parent.tokens,
                               .log_probs = parent.log_probs,
                               .rows = parent.rows,
                               .cumulative_log_prob = candidate.sum,
                               .score = 0,
                               .end = end};
  hypothesis.tokens.push_back(candidate.step.token);
  hypothesis.log_probs.push_back(candidate.step.log_prob);
  hypothesis.rows.push_back(candidate.step.parent);
  hypothesis.score = finished_.score(candidate.sum, static_cast<int64_t>(hypothesis.tokens.size()));
  finished_.add(std::move(hypothesis));
}

/// Makes the beams of the next step of steps_, if there are any.
void BeamSearch::continue_beams() {
  if (steps_.empty()) return;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const Beam& parent = beams_[static_cast<size_t>(steps_[i].parent)];
    if (i < next_.size()) {
      next_[i] = parent;  // keeps the memory that it has
    } else {
      next_.push_back(parent);
    }
    next_[i].history.add(steps_[i].token);
    next_[i].tokens.push_back(steps_[i].token);
    next_[i].log_probs.push_back(steps_[i].log_prob);
    next_[i].rows.push_back(steps_[i].parent);
    next_[i].sum += steps_[i].log_prob;
  }
  next_.erase(next_.begin() + static_cast<ptrdiff_t>(steps_.size()), next_.end());
  beams_.swap(next_);
}

std::vector<BeamHypothesis> BeamSearch::outputs() const {
  std::vector<BeamHypothesis> all = finished_.all();
  if (done_) return all;
  for (const Beam& beam : beams_) {
    const auto length = static_cast<int64_t>(beam.tokens.size());
    all.push_back({.tokens = beam.tokens,
                   .log_probs = beam.log_probs,
                   .rows = beam.rows,
                   .cumulative_log_prob = beam.sum,
                   .score = length == 0 ? 0 : finished_.score(beam.sum, length),
                   .end = BeamEnd::kRunning});
  }
  std::ranges::stable_sort(all, std::ranges::greater(), &BeamHypothesis::score);
  all.resize(std::min(all.size(), static_cast<size_t>(options_.beam_width)));
  return all;
}

std::span<const int32_t> BeamSearch::tokens(int64_t row) const {
  HR_CHECK(row >= 0 && static_cast<size_t>(row) < beams_.size());
  return beams_[static_cast<size_t>(row)].tokens;
}

float BeamSearch::cumulative_log_prob(int64_t row) const {
  HR_CHECK(row >= 0 && static_cast<size_t>(row) < beams_.size());
  return beams_[static_cast<size_t>(row)].sum;
}

}  // namespace headrace
