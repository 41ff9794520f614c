#include <list>
#include <vector>

#include "base/error.h"
#include "compat/convert.h"
#include "tensorrt_llm/common/logger.h"

namespace headrace::compat {
namespace {

[[noreturn]] void refuse(const char* what) {
  fail(ErrorCode::kUnsupported, "[executor] {} not supported: leave it out of the request", what);
}

void check_features(const tle::Request& request) {
  if (request.getLoraConfig()) refuse("LoRA is");
  if (request.getPromptTuningConfig()) refuse("prompt tuning is");
  if (request.getExternalDraftTokensConfig()) refuse("draft tokens are");
  if (request.getLookaheadConfig()) refuse("lookahead decoding is");
  if (request.getEncoderInputTokenIds() || request.getEncoderInputFeatures() ||
      request.getEncoderOutputLength() || request.getOutputConfig().returnEncoderOutput) {
    refuse("an encoder is");
  }
  if (request.getContextPhaseParams() ||
      request.getRequestType() != tle::RequestType::REQUEST_TYPE_CONTEXT_AND_GENERATION) {
    refuse("serving context and generation apart is");
  }
  if (const auto positions = request.getPositionIds()) {
    for (size_t i = 0; i < positions->size(); ++i) {
      if ((*positions)[i] != static_cast<int32_t>(i))
        refuse("positionIds other than 0, 1, ... are");
    }
  }
}

template <typename T>
void set(T& option, const std::optional<T>& value) {
  if (value) option = *value;
}

SamplingOptions to_sampling(const tle::Request& request) {
  const tle::SamplingConfig from = request.getSamplingConfig();
  SamplingOptions to;
  to.beam_width = from.getBeamWidth();
  to.num_return_sequences = request.getNumReturnSequences();
  // Of beams that were not counted upstream returns all: 0 here.
  const bool counted = from.getNumReturnSequences() || to.num_return_sequences != 1;
  if (to.beam_width > 1 && !counted) to.num_return_sequences = 0;
  if (to.beam_width > 1 && to.num_return_sequences > to.beam_width) {
    TLLM_LOG_WARNING("numReturnSequences %d of %d beams: there are no more than the beams",
                     to.num_return_sequences, to.beam_width);
    to.num_return_sequences = to.beam_width;
  }
  // Upstream's default: no limit, which without top_p is greedy here and there.
  to.top_k = from.getTopK().value_or(0);
  set(to.temperature, from.getTemperature());
  set(to.top_p, from.getTopP());
  set(to.min_p, from.getMinP());
  set(to.top_p_decay, from.getTopPDecay());
  set(to.top_p_min, from.getTopPMin());
  set(to.top_p_reset_id, from.getTopPResetIds());
  set(to.repetition_penalty, from.getRepetitionPenalty());
  set(to.presence_penalty, from.getPresencePenalty());
  set(to.frequency_penalty, from.getFrequencyPenalty());
  set(to.no_repeat_ngram_size, from.getNoRepeatNgramSize());
  set(to.min_length, from.getMinTokens());
  set(to.random_seed, from.getSeed());
  set(to.length_penalty, from.getLengthPenalty());
  set(to.early_stopping, from.getEarlyStopping());
  set(to.beam_search_diversity_rate, from.getBeamSearchDiversityRate());
  return to;
}

/// Upstream's beams stream whole, whatever the request says: later steps replace earlier tokens.
bool returns_all_tokens(const tle::Request& request) {
  if (request.getReturnAllGeneratedTokens()) return true;
  if (!request.getStreaming() || request.getSamplingConfig().getBeamWidth() <= 1) return false;
  TLLM_LOG_WARNING(
      "Beams replace each other: each response holds all tokens of all beams, as if "
      "returnAllGeneratedTokens were set");
  return true;
}

OutputOptions to_output(const tle::OutputConfig& from) {
  return {.log_probs = from.returnLogProbs,
          .context_logits = from.returnContextLogits,
          .generation_logits = from.returnGenerationLogits,
          .exclude_input = from.excludeInputFromOutput,
          .exclude_end_id = true};  // upstream's sequences end before it
}

std::vector<std::vector<int32_t>> to_words(const std::optional<std::list<tle::VecTokens>>& words) {
  if (!words) return {};
  return {words->begin(), words->end()};
}

std::vector<float> to_bias(const std::optional<tle::Tensor>& bias) {
  if (!bias || !*bias) return {};
  if (bias->getDataType() != tle::DataType::kFP32) {
    fail(ErrorCode::kInvalidArgument, "[executor] the embedding bias is not kFP32: use that");
  }
  const auto* values = static_cast<const float*>(bias->getData());
  return {values, values + bias->getSize()};
}

}  // namespace

Request to_request(const tle::Request& request) {
  check_features(request);
  return {.prompt = request.getInputTokenIds(),
          .max_new_tokens = request.getMaxTokens(),
          .streaming = request.getStreaming(),
          .sampling = to_sampling(request),
          .output = to_output(request.getOutputConfig()),
          .end_id = request.getEndId(),
          .pad_id = request.getPadId(),
          .bad_words = to_words(request.getBadWords()),
          .stop_words = to_words(request.getStopWords()),
          .embedding_bias = to_bias(request.getEmbeddingBias()),
          .logits_processor = request.getLogitsPostProcessorName().value_or(""),
          .client_id = request.getClientId(),
          .priority = request.getPriority(),
          .return_all_generated_tokens = returns_all_tokens(request)};
}

}  // namespace headrace::compat
