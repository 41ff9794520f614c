#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headrace {

/// When a beam search ends before its length is reached. The values are those of TensorRT-LLM, the
/// names in parentheses those of Hugging Face.
enum class EarlyStopping {
  kHeuristic = 0,  // (False) all hypotheses beat the best running beam if it ended here and now
  kWhenFull = 1,   // (True) or: there are beam_width hypotheses
  kNever = 2,      // ("never") all beat the best running beam if it went on to the end for free
};

/// Why a hypothesis is complete; kRunning: it is not (BeamSearch::outputs()).
enum class BeamEnd { kEndId, kStopWord, kLength, kRunning };

/// A complete output.
struct BeamHypothesis {
  std::vector<int32_t> tokens;   // generated ones, with the end id or stop word if there is one
  std::vector<float> log_probs;  // of each token, as the search counted it
  std::vector<int32_t> rows;     // of each token, the row of its step that it was chosen from
  float cumulative_log_prob = 0;
  float score = 0;  // cumulative_log_prob / tokens^length_penalty
  BeamEnd end = BeamEnd::kLength;
};

/// The best complete outputs of a beam search. Confined to one thread.
class FinishedBeams {
 public:
  /// Keeps `most` hypotheses of up to `max_tokens` tokens.
  FinishedBeams(size_t most, int64_t max_tokens, float length_penalty, EarlyStopping early_stopping)
      : most_(most),
        max_tokens_(max_tokens),
        length_penalty_(length_penalty),
        early_stopping_(early_stopping) {}

  /// The score of `tokens` tokens that sum to `cumulative_log_prob`.
  float score(float cumulative_log_prob, int64_t tokens) const;

  /// Adds a hypothesis whose score is set, unless there are enough better ones. Of equal scores the
  /// one that was there before is better.
  void add(BeamHypothesis hypothesis);

  /// True if the search may end: there are enough hypotheses, and no running beam is expected to
  /// replace one, when the best of them has `tokens` tokens that sum to `cumulative_log_prob`.
  bool settled(float cumulative_log_prob, int64_t tokens) const;

  /// Best first.
  const std::vector<BeamHypothesis>& all() const { return hypotheses_; }

 private:
  size_t most_;
  int64_t max_tokens_;
  float length_penalty_;
  EarlyStopping early_stopping_;
  std::vector<BeamHypothesis> hypotheses_;
};

}  // namespace headrace
