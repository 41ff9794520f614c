#include "executor/request_check.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "sampling/philox.h"

namespace headrace {
namespace {

template <typename... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  fail(ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

const char* advice_on_kv(const PromptLimits& limits) {
  return limits.kv_shrunk ? "lower gpu_weights_percent"
                          : "give the cache more tokens, or a larger share of memory";
}

void check_length(std::string_view place, int64_t length, int64_t wanted,
                  const PromptLimits& limits) {
  if (length == 0) refuse("{} is empty: it needs at least one token", place);
  if (wanted < 1) refuse("{} asks for {} new tokens: ask for 1 or more", place, wanted);
  if (length > limits.max_input_tokens) {
    refuse(
        "{} has {} tokens, the engine's --max_input_len is {}: shorten it (--max_input_length {} "
        "keeps its end), or build again with more",
        place, length, limits.max_input_tokens, limits.max_input_tokens);
  }
  const int64_t left = std::max<int64_t>(0, limits.max_sequence_tokens - length);
  if (wanted > left) {
    refuse(
        "{} has {} tokens and asks for {} more, {} fit: ask for {} or fewer, or build again with a "
        "larger --max_seq_len",
        place, length, wanted, limits.max_sequence_tokens, left);
  }
  if (length + wanted - 1 > limits.kv_positions()) {  // the last token is not kept
    refuse("{} has {} tokens and asks for {} more, the KV cache holds {}: ask for fewer, or {}",
           place, length, wanted, limits.kv_positions(), advice_on_kv(limits));
  }
}

void check_beam_request(const Request& request, const PromptLimits& limits) {
  const int32_t beams = request.sampling.beam_width;
  check_beams("[request]", beams, static_cast<int64_t>(request.prompt.size()),
              request.max_new_tokens, limits);
  if (request.sampling.num_return_sequences > beams) {
    refuse("[request] num_return_sequences {} of {} beams: use 1 to {}, or 0 for all of them",
           request.sampling.num_return_sequences, beams, beams);
  }
  if (request.streaming && !request.return_all_generated_tokens) {
    refuse(
        "[request] beams cannot be streamed token by token, for they replace each other: set "
        "return_all_generated_tokens, or leave streaming out");
  }
  BeamSearchOptions options = beam_search_options(request.sampling);
  options.max_new_tokens = request.max_new_tokens;
  validate_beam_search_options(options);
}

void check_sequences(const Request& request, const PromptLimits& limits) {
  const SamplingOptions& sampling = request.sampling;
  if (sampling.num_return_sequences < 0 || sampling.num_return_sequences > limits.max_lines) {
    refuse("[request] num_return_sequences {}: this executor takes 1 to {}, or 0",
           sampling.num_return_sequences, limits.max_lines);
  }
  if (sampling.beam_width != 1) check_beam_request(request, limits);
}

void check_processor(const std::string& name, const RequestLimits& limits) {
  if (name.empty() || limits.logits_processors.contains(name)) return;
  if (name == kBatchedLogitsProcessor && limits.batched_logits_processor) return;
  refuse("[request] logits_processor '{}' is not among the executor's {}", name.substr(0, 80),
         limits.logits_processors.size());
}

}  // namespace

void check_prompt(std::string_view place, std::span<const int32_t> prompt, int64_t max_new_tokens,
                  const PromptLimits& limits) {
  check_length(place, static_cast<int64_t>(prompt.size()), max_new_tokens, limits);
  for (const int32_t id : prompt) {
    if (id >= 0 && id < limits.vocab_size) continue;
    refuse("{} holds token id {}, the vocabulary is 0 to {}", place, id, limits.vocab_size - 1);
  }
}

void check_beams(std::string_view place, int64_t beam_width, int64_t prompt_tokens,
                 int64_t max_new_tokens, const PromptLimits& limits) {
  if (beam_width < 1 || beam_width > limits.max_beam_width) {
    refuse("{} asks for {} beams, 1 to {} work: build with more --max_beam_width, and open with it",
           place, beam_width, limits.max_beam_width);
  }
  const int64_t positions = prompt_tokens + max_new_tokens - 1;
  const auto blocks = [&](int64_t beams) {
    return limits.kv.blocks_for_beams(beams, prompt_tokens, positions);
  };
  if (blocks(beam_width) <= limits.kv_blocks) return;
  int64_t fit = beam_width;
  while (fit > 1 && blocks(fit) > limits.kv_blocks) --fit;
  refuse(
      "{} asks for {} beams of up to {} tokens, which need {} blocks of KV cache, there are {}: {} "
      "fit, or ask for fewer tokens, or {}",
      place, beam_width, prompt_tokens + max_new_tokens, blocks(beam_width), limits.kv_blocks, fit,
      advice_on_kv(limits));
}

void check_room(const Request& request, const PromptLimits& limits) {
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  check_length("[request] the prompt", prompt_tokens, request.max_new_tokens, limits);
  check_beams("[request]", request.sampling.beam_width, prompt_tokens, request.max_new_tokens,
              limits);
}

void check_request(const Request& request, const RequestLimits& limits) {
  const int64_t vocab = limits.prompt.vocab_size;
  check_prompt("[request] the prompt", request.prompt, request.max_new_tokens, limits.prompt);
  check_sequences(request, limits.prompt);
  validate_sampling_params(sampling_params(request.sampling, 0));
  validate_token_constraints(token_constraints(request), vocab);
  check_processor(request.logits_processor, limits);
  // A negative end id is how clients say that there is none.
  if (request.end_id && *request.end_id >= vocab) {
    refuse("[request] end_id {}: the vocabulary is 0 to {}; leave it out for none", *request.end_id,
           vocab - 1);
  }
  if (!(request.priority >= 0 && request.priority <= 1)) {
    refuse("[request] priority {}: use 0.0 to 1.0", request.priority);
  }
  if (request.deadline_ms && *request.deadline_ms < 0) {
    refuse("[request] deadline_ms {}: use 0 or more, or leave it out", *request.deadline_ms);
  }
}

uint64_t sequence_seed(uint64_t request_seed, int32_t index) {
  if (index == 0) return request_seed;
  const std::array<uint32_t, 4> bits =
      philox({static_cast<uint32_t>(index), 0, 0, 1},
             {static_cast<uint32_t>(request_seed), static_cast<uint32_t>(request_seed >> 32)});
  return uint64_t{bits[1]} << 32 | bits[0];
}

SamplingParams sampling_params(const SamplingOptions& options, int32_t index) {
  return {.temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .repetition_penalty = options.repetition_penalty,
          .presence_penalty = options.presence_penalty,
          .frequency_penalty = options.frequency_penalty,
          .random_seed = sequence_seed(options.random_seed, index),
          .min_length = options.min_length,
          .no_repeat_ngram_size = options.no_repeat_ngram_size,
          .min_p = options.min_p,
          .top_p_decay = options.top_p_decay,
          .top_p_min = options.top_p_min,
          .top_p_reset_id = options.top_p_reset_id};
}

TokenConstraints token_constraints(const Request& request) {
  return {.bad_words = request.bad_words,
          .stop_words = request.stop_words,
          .embedding_bias = request.embedding_bias};
}

BeamSearchOptions beam_search_options(const SamplingOptions& options) {
  EarlyStopping early_stopping = EarlyStopping::kNever;
  if (options.early_stopping == 0) early_stopping = EarlyStopping::kHeuristic;
  if (options.early_stopping == 1) early_stopping = EarlyStopping::kWhenFull;
  return {.beam_width = options.beam_width,
          .length_penalty = options.length_penalty,
          .early_stopping = early_stopping,
          .diversity_rate = options.beam_search_diversity_rate};
}

}  // namespace headrace
