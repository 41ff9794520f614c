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
                          .constraints = token_constraints(request),
                          .priority = request.priority,
                          .arrival = id,
                          .context_logits = request.output.context_logits,
                          .logits_use = logits_use(request)};
  if (request.end_id && *request.end_id >= 0) options.end_ids = {*request.end_id};
  return options;
}

/// `arrival_ns` + `ms`, or the end of time.
int64_t deadline_after(int64_t arrival_ns, int64_t ms) {
  constexpr int64_t kNsPerMs = 1'000'000;
  const int64_t most = (std::numeric_limits<int64_t>::max() - arrival_ns) / kNsPerMs;
  return arrival_ns + std::min(ms, most) * kNsPerMs;
}

}  // namespace

ActiveRequest::ActiveRequest(uint64_t id, Request request, int64_t arrival_ns, int64_t vocab_size)
    : id_(id), request_(std::move(request)), vocab_size_(vocab_size) {
  if (request_.deadline_ms) deadline_ns_ = deadline_after(arrival_ns, *request_.deadline_ms);
  unfinished_ = static_cast<size_t>(request_.sampling.num_return_sequences);
  outputs_.resize(unfinished_);
  sequences_.reserve(unfinished_);
  for (int32_t i = 0; i < request_.sampling.num_return_sequences; ++i) {
    sequences_.push_back(std::make_unique<Sequence>(sequence_options(id, request_, i)));
  }
}

void ActiveRequest::add_context_logits(const Sequence& sequence, std::span<const float> logits) {
  std::vector<float>& all = output(sequence).context_logits;
  all.insert(all.end(), logits.begin(), logits.end());
}

void ActiveRequest::add_generation_logits(const Sequence& sequence, std::span<const float> logits) {
  if (!request_.output.generation_logits) return;
  std::vector<float>& all = output(sequence).generation_logits;
  all.insert(all.end(), logits.begin(), logits.end());
}

void ActiveRequest::on_token(const Sequence& sequence, std::vector<Response>& responses) {
  if (!sequence.finished() && !request_.streaming) return;
  responses.push_back(respond(sequence));
}

void ActiveRequest::end(FinishReason reason, std::vector<Response>& responses) {
  for (const auto& sequence : sequences_) {
    if (output(*sequence).ended) continue;
    sequence->finish_reason = reason;
    responses.push_back(respond(*sequence));
  }
}

void ActiveRequest::fail(const std::string& message, std::vector<Response>& responses) {
  unfinished_ = 0;
  responses.push_back(error_response(id_, message));
}

Response ActiveRequest::respond(const Sequence& sequence) {
  Output& output = this->output(sequence);
  if (sequence.finished()) {
    output.ended = true;
    --unfinished_;
  }
  Response response{.request_id = id_};
  Result& result = response.result;
  result.is_final = over();
  result.sequence_index = sequence.index;
  result.is_sequence_final = sequence.finished();
  const int64_t first =
      request_.streaming && !request_.return_all_generated_tokens ? output.told : 0;
  result.tokens = {tokens(sequence, first)};
  result.finish_reasons = {sequence.finish_reason};
  if (request_.output.log_probs) {
    result.cum_log_probs = {static_cast<float>(sequence.cumulative_log_prob)};
    result.log_probs = {{sequence.log_probs.begin() + first,
                         sequence.log_probs.end() - (leaves_end_id_out(sequence) ? 1 : 0)}};
  }
  fill_in_logits(output, result);
  output.told = sequence.generated();
  return response;
}

/// The tokens of a response: generated ones from number `first` on, and maybe the prompt.
std::vector<int32_t> ActiveRequest::tokens(const Sequence& sequence, int64_t first) const {
  const bool with_prompt = !request_.streaming && !request_.output.exclude_input;
  const auto begin = sequence.ids.begin() + (with_prompt ? 0 : sequence.prompt_size + first);
  return {begin, sequence.ids.end() - (leaves_end_id_out(sequence) ? 1 : 0)};
}

bool ActiveRequest::leaves_end_id_out(const Sequence& sequence) const {
  return request_.output.exclude_end_id && sequence.finish_reason == FinishReason::kEndId;
}

/// Logits go out once: generation logits with the token that they chose, or all at the end.
void ActiveRequest::fill_in_logits(Output& output, Result& result) const {
  const auto make = [&](std::vector<float>& values) {
    return Logits{.rows = static_cast<int64_t>(values.size()) / vocab_size_,
                  .vocab_size = vocab_size_,
                  .values = std::exchange(values, {})};
  };
  if (request_.output.context_logits && !output.context_logits.empty()) {
    result.context_logits = make(output.context_logits);
  }
  if (request_.output.generation_logits) result.generation_logits = make(output.generation_logits);
}

RequestStats ActiveRequest::stats() const {
  RequestStats stats{.request_id = id_};
  bool all_decode = true;
  for (const auto& sequence : sequences_) {
    stats.context_position += std::min(sequence->cached, sequence->prompt_size);
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
