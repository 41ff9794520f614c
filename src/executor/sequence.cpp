#include "executor/sequence.h"

#include <algorithm>

#include "base/error.h"

namespace headrace {

Sequence::Sequence(const SequenceOptions& options)
    : request_id(options.request_id),
      index(options.index),
      width(options.beams.beam_width),
      prompt_size(static_cast<int64_t>(options.prompt.size())),
      max_new_tokens(options.max_new_tokens),
      end_ids(options.end_ids),
      stop_words(options.constraints.stop_words),
      priority(options.priority),
      arrival(options.arrival),
      context_logits(options.context_logits),
      logits_use(options.logits_use),
      ids(options.prompt) {
  if (width == 1) {
    sampler.emplace(options.sampling, options.prompt, options.end_ids, options.constraints);
    return;
  }
  BeamSearchOptions search = options.beams;
  search.max_new_tokens = max_new_tokens;
  beams.emplace(search, options.sampling, options.prompt, options.end_ids, options.constraints);
}

void Sequence::choose(std::span<const float> logits) {
  if (!beams) {
    add(sampler->sample(logits));
    return;
  }
  const auto rows = static_cast<size_t>(lines());
  const size_t vocab = logits.size() / rows;
  for (size_t row = 0; row < rows; ++row) beams->add_logits(logits.subspan(row * vocab, vocab));
  advance_beams();
}

void Sequence::choose_from_best(const BestTokens& best) {
  const auto needed = static_cast<size_t>(best_needed());
  const auto count = static_cast<size_t>(best.count);
  HR_CHECK(needed <= count && static_cast<int64_t>(best.log_sums.size()) == lines());
  if (!beams) {
    add(sampler->sample_best(best.ids.first(needed), best.logits.first(needed), best.log_sums[0]));
    return;
  }
  for (size_t row = 0; row < best.log_sums.size(); ++row) {
    beams->add_best(best.ids.subspan(row * count, needed), best.logits.subspan(row * count, needed),
                    best.log_sums[row]);
  }
  advance_beams();
}

void Sequence::add(const SampledToken& token) {
  ++steps;
  ids.push_back(token.id);
  log_probs.push_back(token.log_prob);
  cumulative_log_prob += static_cast<double>(token.log_prob);
  if (std::ranges::find(end_ids, token.id) != end_ids.end()) {
    finish_reason = FinishReason::kEndId;
  } else if (ends_with_word(generated_ids(), stop_words)) {
    finish_reason = FinishReason::kStopped;
  } else if (generated() >= max_new_tokens) {
    finish_reason = FinishReason::kLength;
  }
}

void Sequence::advance_beams() {
  const std::span<const BeamStep> next = beams->advance();
  ++steps;
  parents.clear();
  for (const BeamStep& step : next) parents.push_back(step.parent);
  std::span<const int32_t> tokens;
  if (beams->done()) {
    const BeamHypothesis& best = beams->hypotheses().front();
    tokens = best.tokens;
    log_probs = best.log_probs;
    cumulative_log_prob = static_cast<double>(best.cumulative_log_prob);
    finish_reason = finish_reason_of(best.end);
  } else {
    tokens = beams->tokens(0);
  }
  ids.resize(static_cast<size_t>(prompt_size));
  ids.insert(ids.end(), tokens.begin(), tokens.end());
}

void Sequence::restart() {
  if (!beams) return;
  ids.resize(static_cast<size_t>(prompt_size));
  beams->restart(ids);
  steps = 0;
  parents.clear();
}

FinishReason finish_reason_of(BeamEnd end) {
  switch (end) {
    case BeamEnd::kEndId:
      return FinishReason::kEndId;
    case BeamEnd::kStopWord:
      return FinishReason::kStopped;
    case BeamEnd::kLength:
      return FinishReason::kLength;
    case BeamEnd::kRunning:
      break;
  }
  return FinishReason::kNotFinished;
}

}  // namespace headrace
