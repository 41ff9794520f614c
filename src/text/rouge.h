#pragma once

#include <cstdint>
#include <string_view>

namespace headrace {

/// How much two texts share: precision over the prediction, recall over the target, and their
/// harmonic mean. 0 to 1.
struct RougeScore {
  double precision = 0;
  double recall = 0;
  double f_measure = 0;
};

/// Lin 2004, "ROUGE: a package for automatic evaluation of summaries": shared words (1), pairs of
/// words (2), longest common subsequence (L), and the union of the subsequences of every pair of
/// lines (Lsum).
struct RougeScores {
  RougeScore rouge1;
  RougeScore rouge2;
  RougeScore rouge_l;
  RougeScore rouge_lsum;
};

/// Scores a prediction against its target, in the numbers of the Python package rouge_score without
/// its stemmer: words are runs of a-z and 0-9 after lower-casing, a line is a sentence. Time grows
/// with the product of the lengths.
RougeScores rouge(std::string_view target, std::string_view prediction);

/// Plain mean of F-measures over samples, times 100. Confined to one thread.
class RougeMean {
 public:
  void add(const RougeScores& scores);
  int64_t samples() const { return samples_; }
  double rouge1() const { return mean(rouge1_); }
  double rouge2() const { return mean(rouge2_); }
  double rouge_l() const { return mean(rouge_l_); }
  double rouge_lsum() const { return mean(rouge_lsum_); }

 private:
  /// 0 without samples.
  double mean(double sum) const;

  int64_t samples_ = 0;
  double rouge1_ = 0;
  double rouge2_ = 0;
  double rouge_l_ = 0;
  double rouge_lsum_ = 0;
};

}  // namespace headrace
