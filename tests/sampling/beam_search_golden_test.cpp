// Compares beam searches with transformers' (tests/golden/beam_search/make_beam_search.py) in a
// model whose logits are a function of the last two tokens and the length.

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sampling/beam_search.h"
#include "sampling/likeliest.h"
#include "sampling/softmax.h"
#include "tests/support/golden.h"

namespace headrace {
namespace {

using Json = nlohmann::json;

/// The model: a sum of three rows of tables.
class TableModel {
 public:
  explicit TableModel(const Json& golden)
      : last_(golden["last"].get<std::vector<std::vector<float>>>()),
        before_last_(golden["before_last"].get<std::vector<std::vector<float>>>()),
        length_(golden["length"].get<std::vector<std::vector<float>>>()) {}

  std::vector<float> logits(std::vector<int32_t> sequence, std::span<const int32_t> output) const {
    sequence.insert(sequence.end(), output.begin(), output.end());
    const std::vector<float>& length = length_[sequence.size() % length_.size()];
    sequence.insert(sequence.begin(), 0);
    std::vector<float> logits = last_[static_cast<size_t>(sequence.back())];
    const std::vector<float>& before = before_last_[static_cast<size_t>(sequence.end()[-2])];
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = (logits[i] + before[i]) + length[i];
    return logits;
  }

 private:
  std::vector<std::vector<float>> last_;
  std::vector<std::vector<float>> before_last_;
  std::vector<std::vector<float>> length_;
};

BeamSearchOptions options_of(const Json& wanted) {
  const Json& stop = wanted["early_stopping"];
  return {.beam_width = wanted["num_beams"],
          .max_new_tokens = wanted["max_new_tokens"],
          .length_penalty = wanted["length_penalty"],
          .early_stopping = stop == "never" ? EarlyStopping::kNever
                            : stop == true  ? EarlyStopping::kWhenFull
                                            : EarlyStopping::kHeuristic};
}

BeamSearch start(const Json& wanted) {
  const SamplingParams params = {.min_length = wanted.value("min_new_tokens", 0),
                                 .no_repeat_ngram_size = wanted.value("no_repeat_ngram_size", 0)};
  TokenConstraints constraints;
  if (wanted.contains("bad_words_ids")) wanted["bad_words_ids"].get_to(constraints.bad_words);
  return {options_of(wanted), params, wanted["prompt"].get<std::vector<int32_t>>(),
          wanted["end_ids"].get<std::vector<int32_t>>(), std::move(constraints)};
}

/// Gives all rows of a step, as logits or, where that is enough, as the likeliest tokens alone.
void give_rows(BeamSearch& search, const TableModel& model, const std::vector<int32_t>& prompt,
               bool best_alone) {
  const int64_t best = best_alone ? search.best_needed() : 0;
  const int64_t rows = search.rows();
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<float> logits = model.logits(prompt, search.tokens(row));
    if (best == 0 || best > static_cast<int64_t>(logits.size())) {
      search.add_logits(logits);
      continue;
    }
    std::vector<int32_t> ids;
    find_likeliest(logits, static_cast<size_t>(best), ids);
    std::vector<float> values;
    for (const int32_t id : ids) values.push_back(logits[static_cast<size_t>(id)]);
    search.add_best(ids, values, static_cast<float>(log_sum_exp(logits, values[0])) - values[0]);
  }
}

void expect_hypotheses(const BeamSearch& search, const TableModel& model, const Json& wanted) {
  const auto prompt = wanted["prompt"].get<std::vector<int32_t>>();
  ASSERT_EQ(search.hypotheses().size(), wanted["tokens"].size());
  for (size_t i = 0; i < search.hypotheses().size(); ++i) {
    const BeamHypothesis& hypothesis = search.hypotheses()[i];
    EXPECT_EQ(hypothesis.tokens, wanted["tokens"][i].get<std::vector<int32_t>>()) << i;
    EXPECT_NEAR(hypothesis.score, wanted["scores"][i].get<double>(), 1e-4) << i;
    ASSERT_EQ(hypothesis.log_probs.size(), hypothesis.tokens.size());
    double sum = 0;
    for (size_t at = 0; at < hypothesis.tokens.size(); ++at) {
      const std::vector<float> logits =
          model.logits(prompt, std::span(hypothesis.tokens).first(at));
      const double log_sum = log_sum_exp(logits, logits[static_cast<size_t>(argmax(logits))]);
      const double exact = logits[static_cast<size_t>(hypothesis.tokens[at])] - log_sum;
      EXPECT_NEAR(hypothesis.log_probs[at], exact, 1e-5);
      sum += exact;
    }
    EXPECT_NEAR(hypothesis.cumulative_log_prob, sum, 1e-4);
  }
}

void run_all(bool best_alone) {
  const Json golden =
      Json::parse(testing::read_file(testing::golden_path("beam_search/beam_search.json")));
  const TableModel model(golden);
  ASSERT_GT(golden["cases"].size(), 200U);
  for (const Json& wanted : golden["cases"]) {
    SCOPED_TRACE(wanted.dump());
    BeamSearch search = start(wanted);
    const auto prompt = wanted["prompt"].get<std::vector<int32_t>>();
    int64_t steps = 0;
    while (!search.done()) {
      give_rows(search, model, prompt, best_alone);
      search.advance();
      ASSERT_LE(++steps, wanted["max_new_tokens"].get<int64_t>());
    }
    expect_hypotheses(search, model, wanted);
  }
}

TEST(BeamSearchGolden, FindsWhatTransformersFinds) { run_all(false); }

TEST(BeamSearchGolden, FindsItFromTheLikeliestTokensAlone) { run_all(true); }

}  // namespace
}  // namespace headrace
