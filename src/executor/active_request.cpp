#include "executor/active_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "executor/request_check.h"

namespace headrace {
namespace {

LogitsUse logits_use(const Request& request) {
  if (request.logits_processor == kBatchedLogitsProcessor) return LogitsUse::kBatched;
  const bool wanted = !request.logits_processor.empty() || request.output.generation_logits;
  return wanted ? LogitsUse::kEach : LogitsUse::kNone;
}

SequenceOptions sequence_options(uint64_t id, const Request& request, int32_t index) {
  SequenceOptions options{.request_id = id,
                          .index = index,
                          .prompt = request.prompt,
                          .max_new_tokens = request.max_new_tokens,
                          .sampling = sampling_params(request.sampling, index),
                          .beams = beam_search_options(request.sampling),
                          .constraints = token_constraints(request),
                          .priority = request.priority,
                          .arrival = id,
                          .context_logits = request.output.context_logits,
                          .logits_use = logits_use(request)};
  if (request.end_id && *request.end_id >= 0) options.end_ids = {*request.end_id};
  return options;
}

/// Sequences that are computed apart.
int32_t count_sequences(const SamplingOptions& sampling) {
  return sampling.beam_width > 1 ? 1 : std::max(1, sampling.num_return_sequences);
}

/// `arrival_ns` + `ms`, or the end of time.
int64_t deadline_after(int64_t arrival_ns, int64_t ms) {
  constexpr int64_t kNsPerMs = 1'000'000;
  const int64_t most = (std::numeric_limits<int64_t>::max() - arrival_ns) / kNsPerMs;
  return arrival_ns + std::min(ms, most) * kNsPerMs;
}

}  // namespace

ActiveRequest::ActiveRequest(uint64_t id, Request request, int64_t arrival_ns, int64_t vocab_size,
                             bool normalize_log_probs)
    : id_(id),
      request_(std::move(request)),
      vocab_size_(vocab_size),
      normalize_log_probs_(normalize_log_probs) {
  if (request_.deadline_ms) deadline_ns_ = deadline_after(arrival_ns, *request_.deadline_ms);
  const int32_t count = count_sequences(request_.sampling);
  unfinished_ = static_cast<size_t>(count);
  outputs_.resize(unfinished_);
  sequences_.reserve(unfinished_);
  for (int32_t i = 0; i < count; ++i) {
    sequences_.push_back(std::make_unique<Sequence>(sequence_options(id, request_, i)));
    if (request_.output.generation_logits && sequences_.back()->beams) {
      output(*sequences_.back()).beam_logits.emplace(vocab_size);
    }
  }
}

void ActiveRequest::add_context_logits(const Sequence& sequence, std::span<const float> logits) {
  std::vector<float>& all = output(sequence).context_logits;
  all.insert(all.end(), logits.begin(), logits.end());
}

void ActiveRequest::add_generation_logits(const Sequence& sequence, std::span<const float> logits) {
  if (!request_.output.generation_logits) return;
  if (sequence.beams) {
    output(sequence).beam_logits->add(sequence.generated(), logits);
    return;
  }
  std::vector<float>& all = output(sequence).generation_logits;
  all.insert(all.end(), logits.begin(), logits.end());
}

void ActiveRequest::on_token(const Sequence& sequence, std::vector<Response>& responses) {
  // A beam search that was preempted comes by what it has told again.
  const bool news = sequence.generated() > output(sequence).told;
  if (!sequence.finished() && !(request_.streaming && news)) return;
  respond(sequence, responses);
}

void ActiveRequest::end(FinishReason reason, std::vector<Response>& responses) {
  for (const auto& sequence : sequences_) {
    if (output(*sequence).ended) continue;
    sequence->finish_reason = reason;
    respond(*sequence, responses);
  }
}

void ActiveRequest::fail(const std::string& message, std::vector<Response>& responses) {
  unfinished_ = 0;
  responses.push_back(error_response(id_, message));
}

/// Nothing has been told if it throws.
void ActiveRequest::respond(const Sequence& sequence, std::vector<Response>& responses) {
  Output& output = this->output(sequence);
  const size_t unfinished = unfinished_ - (sequence.finished() ? 1 : 0);
  Response response{.request_id = id_};
  Result& result = response.result;
  result.is_final = unfinished == 0;
  result.sequence_index = sequence.index;
  result.is_sequence_final = sequence.finished();
  result.decoding_iterations = sequence.steps;
  if (sequence.beams) {
    fill_in_beams(sequence, output, result);
  } else {
    const bool new_ones = request_.streaming && !request_.return_all_generated_tokens;
    fill_in_line(sequence, new_ones ? output.told : 0, result);
  }
  responses.push_back(std::move(response));
  move_logits(output, responses.back().result);
  output.told = sequence.generated();
  output.ended = sequence.finished();
  unfinished_ = unfinished;
}

/// Of a sequence without beams: generated tokens from number `first` on, and maybe the prompt.
/// Every token may come by here: vectors are made in place, for a list would be copied.
void ActiveRequest::fill_in_line(const Sequence& sequence, int64_t first, Result& result) const {
  const int64_t left_out = leaves_end_id_out(sequence.finish_reason) ? 1 : 0;
  const int64_t begin = tells_prompt() ? 0 : sequence.prompt_size + first;
  result.tokens.emplace_back(sequence.ids.begin() + begin, sequence.ids.end() - left_out);
  result.finish_reasons.push_back(sequence.finish_reason);
  if (!request_.output.log_probs) return;
  result.cum_log_probs.push_back(static_cast<float>(sequence.cumulative_log_prob));
  result.log_probs.emplace_back(sequence.log_probs.begin() + first,
                                sequence.log_probs.end() - left_out);
}

/// The best beams, as they are now. What ends the sequence ends those that still run. Only then
/// it is known which logits are theirs.
void ActiveRequest::fill_in_beams(const Sequence& sequence, const Output& output,
                                  Result& result) const {
  std::vector<BeamHypothesis> beams = sequence.beams->outputs();
  const auto wanted = static_cast<size_t>(request_.sampling.num_return_sequences);
  if (wanted > 0 && wanted < beams.size()) beams.resize(wanted);
  if (output.beam_logits && sequence.finished()) {
    result.generation_logits = Logits{.rows = static_cast<int64_t>(longest(beams)),
                                      .vocab_size = vocab_size_,
                                      .values = output.beam_logits->gather(beams)};
  }
  const auto prompt_end = sequence.ids.begin() + sequence.prompt_size;
  for (BeamHypothesis& beam : beams) {
    const FinishReason reason =
        beam.end == BeamEnd::kRunning ? sequence.finish_reason : finish_reason_of(beam.end);
    const auto length = static_cast<float>(std::max<size_t>(1, beam.tokens.size()));
    if (leaves_end_id_out(reason)) {
      beam.tokens.pop_back();
      beam.log_probs.pop_back();
    }
    if (tells_prompt()) {
      beam.tokens.insert(beam.tokens.begin(), sequence.ids.begin(), prompt_end);
    }
    result.tokens.push_back(std::move(beam.tokens));
    result.finish_reasons.push_back(reason);
    if (!request_.output.log_probs) continue;
    result.cum_log_probs.push_back(beam.cumulative_log_prob /
                                   (normalize_log_probs_ ? length : 1.0f));
    result.log_probs.push_back(std::move(beam.log_probs));
  }
}

bool ActiveRequest::leaves_end_id_out(FinishReason reason) const {
  return request_.output.exclude_end_id && reason == FinishReason::kEndId;
}

/// Logits go out once: generation logits with the token that they chose, or all at the end. Those
/// of beams are not among them.
void ActiveRequest::move_logits(Output& output, Result& result) const {
  const auto make = [&](std::vector<float>& values) {
    return Logits{.rows = static_cast<int64_t>(values.size()) / vocab_size_,
                  .vocab_size = vocab_size_,
                  .values = std::exchange(values, {})};
  };
  if (request_.output.context_logits && !output.context_logits.empty()) {
    result.context_logits = make(output.context_logits);
  }
  if (request_.output.generation_logits && !output.beam_logits) {
    result.generation_logits = make(output.generation_logits);
  }
}

RequestStats ActiveRequest::stats() const {
  RequestStats stats{.request_id = id_};
  bool all_decode = true;
  for (const auto& sequence : sequences_) {
    stats.context_position += sequence->context_position;
    stats.generated_tokens += sequence->generated();
    stats.preemptions += sequence->preemptions;
    stats.reused_blocks += sequence->reused_blocks;
    const bool waits = sequence->place == Sequence::Place::kWaiting;
    stats.paused = stats.paused || (waits && sequence->preemptions > 0);
    all_decode = all_decode && sequence->generated() > 0;
  }
  if (over()) {
    stats.stage = RequestStage::kGenerationComplete;
  } else if (started_) {
    stats.stage =
        all_decode ? RequestStage::kGenerationInProgress : RequestStage::kContextInProgress;
  }
  return stats;
}

Response error_response(uint64_t request_id, const std::string& message) {
  return {.request_id = request_id,
          .error = message,
          .result = {.is_final = true, .is_sequence_final = true}};
}

}  // namespace headrace
