#include <algorithm>
#include <vector>

#include "base/error.h"
#include "compat/convert.h"

namespace headrace::compat {
namespace {

tle::FinishReason from_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNotFinished:
      return tle::FinishReason::kNOT_FINISHED;
    case FinishReason::kLength:
      return tle::FinishReason::kLENGTH;
    case FinishReason::kEndId:
      return tle::FinishReason::kEND_ID;
    case FinishReason::kStopped:
      return tle::FinishReason::kSTOP_WORDS;
    case FinishReason::kTimedOut:
      return tle::FinishReason::kTIMED_OUT;
    case FinishReason::kCancelled:
      return tle::FinishReason::kCANCELLED;
  }
  HR_CHECK(false);
  return tle::FinishReason::kNOT_FINISHED;
}

tle::Tensor tensor_of(const std::vector<float>& values, tle::Shape shape) {
  tle::Tensor tensor = tle::Tensor::cpu<float>(std::move(shape));
  HR_CHECK(tensor.getSize() == values.size());
  std::ranges::copy(values, static_cast<float*>(tensor.getData()));
  return tensor;
}

/// [beams, rows, vocab] as [rows, beams, vocab].
std::vector<float> rows_first(const Logits& logits, int64_t beams) {
  std::vector<float> values(logits.values.size());
  for (int64_t beam = 0; beam < beams; ++beam) {
    for (int64_t row = 0; row < logits.rows; ++row) {
      const auto from = logits.values.begin() + (beam * logits.rows + row) * logits.vocab_size;
      std::copy_n(from, logits.vocab_size,
                  values.begin() + (row * beams + beam) * logits.vocab_size);
    }
  }
  return values;
}

tle::Tensor generation_tensor(const Logits& logits, int64_t beams, bool streaming) {
  if (!streaming) return tensor_of(logits.values, {beams, logits.rows, logits.vocab_size});
  return tensor_of(rows_first(logits, beams), {logits.rows, beams, logits.vocab_size});
}

tle::Result from_result(const Result& from, bool streaming) {
  tle::Result to;
  to.isFinal = from.is_final;
  to.outputTokenIds = from.tokens;
  if (!from.cum_log_probs.empty()) to.cumLogProbs = from.cum_log_probs;
  if (!from.log_probs.empty()) to.logProbs = from.log_probs;
  if (const auto& logits = from.context_logits) {
    to.contextLogits = tensor_of(logits->values, {logits->rows, logits->vocab_size});
  }
  if (from.generation_logits) {
    const auto beams = static_cast<int64_t>(from.tokens.size());
    to.generationLogits = generation_tensor(*from.generation_logits, beams, streaming);
  }
  for (const FinishReason reason : from.finish_reasons) {
    to.finishReasons.push_back(from_reason(reason));
  }
  to.decodingIter = static_cast<tle::SizeType32>(from.decoding_iterations);
  to.sequenceIndex = from.sequence_index;
  to.isSequenceFinal = from.is_sequence_final;
  return to;
}

}  // namespace

tle::Response from_response(const Response& response, bool streaming) {
  if (response.error) return {response.request_id, *response.error};
  return {response.request_id, from_result(response.result, streaming)};
}

}  // namespace headrace::compat
