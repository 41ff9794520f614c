#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace headrace {

/// How the next token is chosen from the logits. The defaults are greedy, as upstream's are.
struct SamplingParams {
  double temperature = 1.0;         // logits are divided by it
  int32_t top_k = 1;                // keep the k most likely; 1: greedy, 0: all
  double top_p = 0.0;               // then keep the fewest whose probabilities reach p; 0 or 1: all
  double repetition_penalty = 1.0;  // logits of seen tokens: divided if positive, else multiplied
  double presence_penalty = 0.0;    // subtracted once from logits of generated tokens
  double frequency_penalty = 0.0;   // subtracted once per earlier appearance
  uint64_t random_seed = 0;         // same seed, same logits: same tokens
  bool log_probs = false;           // compute SampledToken::log_prob: an exp for every vocabulary entry
};

/// Throws Error{kInvalidArgument} naming the first parameter that cannot be.
void validate_sampling_params(const SamplingParams& params);

struct SampledToken {
  int32_t id = 0;
  float log_prob = 0;  // natural logarithm, of the distribution before top-k and top-p; 0 if not asked
};

/// Chooses the tokens of one sequence. The random number of a step depends on the seed and the step
/// alone, so that results reproduce whatever else is in the batch. Confined to one thread.
class Sampler {
 public:
  /// `prompt` counts for the repetition penalty only. Invalid parameters are an Error.
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt);

  /// Chooses from float32 logits [vocab] and remembers the choice. Ties go to the lowest id. A NaN is
  /// Error{kCorrupt}.
  SampledToken sample(std::span<const float> logits);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };

  bool greedy() const { return params_.top_k == 1; }
  bool penalised() const;
  void apply_penalties();
  float log_prob(int32_t id, float best) const;
  int32_t draw();
  void keep_top_k();
  size_t count_top_p(double total) const;

  const SamplingParams params_;
  uint64_t step_ = 0;
  std::vector<int32_t> seen_;      // ids of prompt and output, each once
  std::vector<int32_t> counts_;    // of each id in the output; as long as the largest id needs
  std::vector<uint8_t> is_seen_;   // by id
  std::vector<float> logits_;      // after penalties
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;    // of candidates_, not normalised

  void remember(int32_t id, bool generated);
};

/// The `step`-th number of the stream `seed`, uniform in [0, 1) with 53 bits (SplitMix64, Steele et al.
/// 2014).
double uniform_random(uint64_t seed, uint64_t step);

}  // namespace headrace
