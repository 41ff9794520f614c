#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/finished_beams.h"
#include "sampling/logit_rules.h"
#include "sampling/sampling_params.h"
#include "sampling/token_constraints.h"

namespace headrace {

/// How to search. The names and meanings are those of TensorRT-LLM.
struct BeamSearchOptions {
  int32_t beam_width = 1;  // beams and hypotheses
  int64_t max_new_tokens = 1;
  float length_penalty = 1.0f;  // exponent of the length that divides sums; above 0 favours long
  EarlyStopping early_stopping = EarlyStopping::kHeuristic;
  float diversity_rate = 0.0f;  // added times the parent's place when beams are chosen; 0: none
};

/// Throws Error{kInvalidArgument} naming the first value that cannot be.
void validate_beam_search_options(const BeamSearchOptions& options);

/// A beam of the next step: `token` behind the beam that had row `parent`.
struct BeamStep {
  int32_t parent = 0;
  int32_t token = 0;
  float log_prob = 0;  // of the token
};

/// Beam search for one request: of all continuations of n beams by one token, the best n go on.
/// Without diversity it finds the tokens that Hugging Face transformers' generate(num_beams=n,
/// do_sample=False) finds (version 5, GenerationMixin._beam_search):
///
/// - A beam's score is the sum of its tokens' log probabilities, in float. These are the
/// log-softmax
///   of the logits after bias, temperature and penalties (SamplingParams, steps 1 to 3; temperature
///   0 is 1). Exclusions (step 4) come after the log-softmax: what is left is not made to sum to 1.
///   top_k, top_p, min_p and random_seed mean nothing here. Hugging Face differs where there are
///   penalties or a bias: it applies them to the log probabilities.
/// - The best k * n continuations are candidates, k being 1 + the number of end ids and stop words,
///   at least 2, so that n of them go on. Of equal candidates the better beam's is better, and of
///   one beam's the one with the larger logit, then the smaller id. A sum of -infinity is
///   no candidate.
/// - A candidate that ends (end id, stop word, or max_new_tokens reached) becomes a hypothesis if
/// it
///   is among the best n candidates, and is dropped otherwise. The best n others are the next
///   beams: fewer if exclusions leave fewer.
/// - A hypothesis' score is its sum divided by its length^length_penalty; the length counts
///   generated tokens, end id included.
/// - diversity_rate * r is added to the sums of row r (the beams' order, the best first) when
///   candidates are compared, as TensorRT-LLM does, and is no part of any score.
///
/// A step: give the row of each running beam, in order, by add_logits() or add_best(); then
/// advance(). The first step has one row, the prompt's. A function of options, sequence and logits
/// alone. Confined to one thread.
class BeamSearch {
 public:
  /// `prompt` counts for penalties, n-grams and bad words. Spans are not kept.
  /// Error{kInvalidArgument} for options, parameters and constraints that cannot be.
  BeamSearch(const BeamSearchOptions& options, const SamplingParams& params,
             std::span<const int32_t> prompt, std::span<const int32_t> end_ids = {},
             TokenConstraints constraints = {});

  /// Begins anew with the same options: what a new object would do.
  void restart(std::span<const int32_t> prompt);

  /// Rows that the next step wants: 1, then as many as there are beams; 0 when done.
  int64_t rows() const { return done_ ? 0 : static_cast<int64_t>(beams_.size()); }
  /// Nothing is left to do: hypotheses() are final.
  bool done() const { return done_; }

  /// Takes the next row [vocab_size]. A logit that is NaN or +infinity is an
  /// Error{kInvalidArgument} naming its token; -infinity excludes a token.
  void add_logits(std::span<const float> logits);
  /// How many of the likeliest tokens of each row are enough for add_best(); 0 if it takes all
  /// logits.
  int64_t best_needed() const;
  /// add_logits() with the best_needed() likeliest tokens, the largest logit first, and of equal
  /// ones the smaller id; `log_sum` is ln(sum of exp(logit - the largest logit)) over all tokens.
  /// Error{kInvalidArgument} if that is not a number.
  void add_best(std::span<const int32_t> ids, std::span<const float> logits, float log_sum);

  /// Ends the step, whose rows() rows have been given. Returns the next beams, the best first: none
  /// when done. They are valid until the next call. Error{kInvalidArgument} if every token of every
  /// beam is excluded and there is no hypothesis.
  std::span<const BeamStep> advance();

  /// The hypotheses so far, the best first; beam_width of them at the end, or fewer if exclusions
  /// left fewer.
  const std::vector<BeamHypothesis>& hypotheses() const { return finished_.all(); }

  /// The best beam_width outputs if the search ended here, the best first: hypotheses() and, before
  /// it is done, the running beams (BeamEnd::kRunning), scored alike. Of equal scores hypotheses
  /// are better, then the better beam.
  std::vector<BeamHypothesis> outputs() const;

  /// Output of the running beam with row `row`: generated tokens, and the sum of their log
  /// probabilities.
  std::span<const int32_t> tokens(int64_t row) const;
  float cumulative_log_prob(int64_t row) const;

 private:
  struct Beam {
    TokenHistory history;
    std::vector<int32_t> tokens = {};
    std::vector<float> log_probs = {};
    std::vector<int32_t> rows = {};
    float sum = 0;
  };
  struct Candidate {
    BeamStep step;
    float sum;      // of the log probabilities of the output that it would be
    float rank;     // the larger, the better
    int32_t place;  // decides between equal ranks: the smaller, the better
  };

  std::span<const float> adjust(std::span<const float> logits);
  void add_candidate(int32_t token, float log_prob);
  void rank_candidates();
  bool ends(const BeamStep& step, BeamEnd& end);
  void finish(const Candidate& candidate, BeamEnd end);
  void continue_beams();

  const BeamSearchOptions options_;
  const LogitRules rules_;
  const std::vector<int32_t> end_ids_;
  const size_t candidates_wanted_;
  std::vector<Beam> beams_;
  FinishedBeams finished_;
  bool done_ = false;

  // The step being made.
  size_t rows_given_ = 0;
  std::vector<Candidate> candidates_;
  std::vector<BeamStep> steps_;
  std::vector<Beam> next_;
  std::vector<float> adjusted_;  // scratch: one row
  std::vector<int32_t> order_;   // scratch: its likeliest tokens
};

}  // namespace headrace
