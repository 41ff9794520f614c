#include "executor/generation_run.h"

namespace headrace {

GenerationRun::GenerationRun(std::span<const GenerationRequest> requests, Batch& batch,
                             bool context_logits, GenerationObserver* observer)
    : observer_(observer), batch_(batch) {
  const bool wants_logits = observer != nullptr && observer->wants_logits();
  sequences_.reserve(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    sequences_.push_back(std::make_unique<Sequence>(
        SequenceOptions{.request_id = i,
                        .prompt = requests[i].prompt,
                        .max_new_tokens = requests[i].max_new_tokens,
                        .end_ids = requests[i].end_ids,
                        .sampling = requests[i].sampling,
                        .beams = requests[i].beams,
                        .constraints = requests[i].constraints,
                        .arrival = i,
                        .context_logits = context_logits,
                        .logits_use = wants_logits ? LogitsUse::kEach : LogitsUse::kNone}));
  }
}

GenerationRun::~GenerationRun() {
  for (const auto& sequence : sequences_) batch_.remove(*sequence);
  if (!done_) batch_.forget_prefixes();  // a pass may have thrown
}

std::vector<GenerationResult> GenerationRun::run(const PassResources& resources,
                                                 GenerationStats& stats) {
  for (const auto& sequence : sequences_) {
    stats.prompt_tokens += sequence->prompt_size;
    batch_.add(*sequence);
  }
  int64_t start_ns = resources.clock.now_ns();
  int64_t generated_before = 0;
  StreamCounters before = resources.stream.counters();
  while (batch_.step(resources, *this)) {
    if (error_) std::rethrow_exception(error_);
    const bool prefill = batch_.prompt_rows() > 0;
    const int64_t end_ns = resources.clock.now_ns();
    ++(prefill ? stats.prefill_passes : stats.decode_passes);
    (prefill ? stats.prefill_ms : stats.decode_ms) += static_cast<double>(end_ns - start_ns) / 1e6;
    const StreamCounters after = resources.stream.counters();
    if (prefill) {
      stats.prefill_tokens += generated_ - generated_before;
    } else {
      stats.decode_stream = stats.decode_stream + (after - before);
    }
    start_ns = end_ns;
    generated_before = generated_;
    before = after;
  }
  stats.generated_tokens = generated_;
  done_ = true;
  std::vector<GenerationResult> results;
  results.reserve(sequences_.size());
  for (const auto& sequence : sequences_) {
    results.push_back(
        {.tokens = {sequence->generated_ids().begin(), sequence->generated_ids().end()},
         .log_probs = std::move(sequence->log_probs),
         .cumulative_log_prob = sequence->cumulative_log_prob,
         .finish_reason = sequence->finish_reason,
         .beams = sequence->beams ? sequence->beams->hypotheses() : std::vector<BeamHypothesis>{}});
  }
  return results;
}

void GenerationRun::on_context_logits(Sequence& sequence, int64_t position,
                                      std::span<const float> logits) {
  if (observer_ != nullptr) observer_->on_context_logits(sequence.request_id, position, logits);
}

void GenerationRun::on_logits(Sequence& sequence, std::span<float> logits) {
  observer_->on_generation_logits(sequence.request_id, sequence.generated(), logits);
}

bool GenerationRun::on_token(Sequence& sequence) {
  generated_ += sequence.width;
  if (observer_ == nullptr) return true;
  if (sequence.beams) {
    observer_->on_beams(sequence.request_id, sequence.beams->outputs(), sequence.finished());
    return true;
  }
  return observer_->on_token(sequence.request_id, sequence.ids.back());
}

void GenerationRun::on_failure(Sequence&, std::exception_ptr error) {
  if (!error_) error_ = std::move(error);
}

}  // namespace headrace
