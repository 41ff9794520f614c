#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "headrace/request.h"
#include "kv/kv_cache.h"
#include "sampling/beam_search.h"
#include "sampling/sampling_params.h"
#include "sampling/token_constraints.h"

namespace headrace {

/// What bounds a prompt and its output.
struct PromptLimits {
  int64_t vocab_size = 0;
  int64_t max_input_tokens = 0;     // the engine's --max_input_len
  int64_t max_sequence_tokens = 0;  // prompt + output
  int64_t max_lines = 1;            // lines of tokens at the same time
  int64_t max_beam_width = 1;
  KvShape kv = {};
  int64_t kv_blocks = 0;   // of the whole KV cache
  bool kv_shrunk = false;  // there are more beside fewer weights

  int64_t kv_positions() const { return kv_blocks * kv.block_tokens; }
};

/// What a request may ask for.
struct RequestLimits {
  PromptLimits prompt = {};
  std::set<std::string> logits_processors = {};
  bool batched_logits_processor = false;
};

/// Error{kInvalidArgument} that begins with `place` ("[session] prompt 3") for an empty prompt, a
/// token that the vocabulary does not have, and more tokens than fit.
void check_prompt(std::string_view place, std::span<const int32_t> prompt, int64_t max_new_tokens,
                  const PromptLimits& limits);

/// The same for more beams than the engine has, or than fit the KV cache with a prompt of so many
/// tokens, which is known to fit with one. `place` as above.
void check_beams(std::string_view place, int64_t beam_width, int64_t prompt_tokens,
                 int64_t max_new_tokens, const PromptLimits& limits);

/// Error naming the first field of `request` that cannot be honoured, and what would work: a
/// request may hold anything. Limited time and memory, whatever it holds.
void check_request(const Request& request, const RequestLimits& limits);
/// What check_request() says of a request's size alone: limits may have changed while it waited.
void check_room(const Request& request, const PromptLimits& limits);

/// Sequence `index` of several draws with a seed of its own, a function of the request's; index 0
/// has the request's.
uint64_t sequence_seed(uint64_t request_seed, int32_t index);
/// The sampler's part of a request, for sequence `index`.
SamplingParams sampling_params(const SamplingOptions& options, int32_t index);
TokenConstraints token_constraints(const Request& request);
BeamSearchOptions beam_search_options(const SamplingOptions& options);

}  // namespace headrace
