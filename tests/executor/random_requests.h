#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "headrace/request.h"

namespace headrace::testing {

/// Requests of every kind, a function of the seed.
class RandomRequests {
 public:
  RandomRequests(uint32_t seed, int32_t vocab_size) : random_(seed), vocab_size_(vocab_size) {}

  int64_t draw(int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random_);
  }
  bool one_in(int64_t n) { return draw(1, n) == 1; }
  double share() { return static_cast<double>(draw(0, 100)) / 100; }

  Request next() {
    Request request;
    request.prompt = tokens(draw(1, 40));
    if (one_in(3))
      std::fill_n(request.prompt.begin(), std::min<size_t>(36, request.prompt.size()), 9);
    request.max_new_tokens = draw(1, 40);
    request.streaming = one_in(2);
    request.priority = static_cast<float>(draw(0, 4)) / 4;
    request.output = {.log_probs = true,
                      .context_logits = one_in(6),
                      .generation_logits = one_in(4),
                      .exclude_input = true};
    request.sampling.random_seed = static_cast<uint64_t>(draw(0, 1000));
    if (one_in(5)) request.sampling.num_return_sequences = 2;
    if (one_in(2)) draw_sampling(request.sampling);
    if (one_in(4)) request.end_id = static_cast<int32_t>(draw(0, vocab_size_ - 1));
    if (one_in(8)) request.stop_words = {tokens(1), tokens(2)};
    if (one_in(8)) request.bad_words = {tokens(1), tokens(2)};
    return request;
  }

  /// The same, of 2 to 4 beams.
  Request next_search() {
    Request request = next();
    request.sampling.num_return_sequences = 0;
    request.sampling.beam_width = static_cast<int32_t>(draw(2, 4));
    request.sampling.early_stopping = static_cast<int32_t>(draw(0, 2));
    request.sampling.length_penalty = static_cast<float>(draw(0, 2));
    request.output.generation_logits = false;
    request.return_all_generated_tokens = true;
    return request;
  }

 private:
  std::vector<int32_t> tokens(int64_t count) {
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = static_cast<int32_t>(draw(0, vocab_size_ - 1));
    return ids;
  }

  void draw_sampling(SamplingOptions& sampling) {
    sampling.temperature = 0.5f + static_cast<float>(share());
    sampling.top_k = static_cast<int32_t>(draw(0, 60));
    sampling.top_p = static_cast<float>(share());
    if (one_in(3)) sampling.repetition_penalty = 1.2f;
    if (one_in(3)) sampling.min_p = 0.1f;
    if (one_in(4)) sampling.no_repeat_ngram_size = 2;
    if (one_in(4)) sampling.min_length = 5;
  }

  std::mt19937 random_;
  const int32_t vocab_size_;
};

}  // namespace headrace::testing
