#include <memory>
#include <utility>

#include <pybind11/stl.h>

#include "core/convert.h"

namespace headrace::python {
namespace {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNotFinished:
      return "not_finished";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kEndId:
      return "end_id";
    case FinishReason::kStopped:
      return "stopped";
    case FinishReason::kTimedOut:
      return "timed_out";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "not_finished";
}

const char* stage_name(RequestStage stage) {
  switch (stage) {
    case RequestStage::kQueued:
      return "queued";
    case RequestStage::kContextInProgress:
      return "context_in_progress";
    case RequestStage::kGenerationInProgress:
      return "generation_in_progress";
    case RequestStage::kGenerationComplete:
      return "generation_complete";
  }
  return "queued";
}

/// [rows, vocab_size], or [beams, rows, vocab_size] of a beam search. Takes the values over.
py::object from_logits(std::optional<Logits>&& logits) {
  if (!logits) return py::none();
  const int64_t matrix = logits->rows * logits->vocab_size;
  const int64_t beams = matrix == 0 ? 1 : static_cast<int64_t>(logits->values.size()) / matrix;
  std::vector<py::ssize_t> shape = {logits->rows, logits->vocab_size};
  if (beams > 1) shape.insert(shape.begin(), beams);
  auto values = std::make_unique<std::vector<float>>(std::move(logits->values));
  const float* data = values->data();
  const py::capsule owner(values.get(),
                          [](void* owned) { delete static_cast<std::vector<float>*>(owned); });
  values.release();  // NOLINT(bugprone-unused-return-value): the capsule's now
  return py::array_t<float>(std::move(shape), data, owner);
}

py::dict from_kv_cache(const KvCacheStats& stats) {
  using py::literals::operator""_a;
  return py::dict("max_blocks"_a = stats.max_blocks, "free_blocks"_a = stats.free_blocks,
                  "used_blocks"_a = stats.used_blocks,
                  "tokens_per_block"_a = stats.tokens_per_block,
                  "reused_blocks"_a = stats.reused_blocks);
}

}  // namespace

py::tuple from_response(Response&& response) {
  Result& result = response.result;
  py::list reasons;
  for (const FinishReason reason : result.finish_reasons) {
    reasons.append(finish_reason_name(reason));
  }
  return py::make_tuple(response.request_id, response.error, result.is_final, result.sequence_index,
                        result.is_sequence_final, result.tokens, result.cum_log_probs,
                        result.log_probs, from_logits(std::move(result.context_logits)),
                        from_logits(std::move(result.generation_logits)),
                        result.decoding_iterations, reasons);
}

py::dict from_stats(const IterationStats& stats) {
  using py::literals::operator""_a;
  return py::dict(
      "iteration"_a = stats.iteration, "timestamp_us"_a = stats.timestamp_us,
      "latency_ms"_a = stats.latency_ms, "scheduling_ms"_a = stats.scheduling_ms,
      "max_active_requests"_a = stats.max_active_requests,
      "active_requests"_a = stats.active_requests, "queued_requests"_a = stats.queued_requests,
      "new_requests"_a = stats.new_requests, "completed_requests"_a = stats.completed_requests,
      "scheduled_sequences"_a = stats.scheduled_sequences,
      "context_sequences"_a = stats.context_sequences,
      "generation_sequences"_a = stats.generation_sequences,
      "paused_sequences"_a = stats.paused_sequences, "context_tokens"_a = stats.context_tokens,
      "generated_tokens"_a = stats.generated_tokens, "streamed_bytes"_a = stats.streamed_bytes,
      "gpu_weights_percent"_a = stats.gpu_weights_percent,
      "kv_cache"_a = from_kv_cache(stats.kv_cache));
}

py::dict from_stats(const RequestStatsOfIteration& stats) {
  using py::literals::operator""_a;
  py::list requests;
  for (const RequestStats& request : stats.requests) {
    requests.append(
        py::dict("request_id"_a = request.request_id, "stage"_a = stage_name(request.stage),
                 "context_position"_a = request.context_position,
                 "generated_tokens"_a = request.generated_tokens, "scheduled"_a = request.scheduled,
                 "paused"_a = request.paused, "preemptions"_a = request.preemptions,
                 "reused_blocks"_a = request.reused_blocks));
  }
  return py::dict("iteration"_a = stats.iteration, "requests"_a = requests);
}

}  // namespace headrace::python
