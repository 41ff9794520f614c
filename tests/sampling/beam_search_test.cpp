#include "sampling/beam_search.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {

bool operator==(const BeamStep& a, const BeamStep& b) {
  return a.parent == b.parent && a.token == b.token;
}

namespace {

using testing::expect_error;

using Ids = std::vector<int32_t>;
using Steps = std::vector<BeamStep>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

/// Logits of the given probabilities.
std::vector<float> logs(std::vector<float> probabilities) {
  for (float& probability : probabilities) probability = std::log(probability);
  return probabilities;
}

Steps step(BeamSearch& search, const std::vector<std::vector<float>>& rows) {
  EXPECT_EQ(search.rows(), static_cast<int64_t>(rows.size()));
  for (const std::vector<float>& row : rows) search.add_logits(row);
  const std::span<const BeamStep> steps = search.advance();
  return {steps.begin(), steps.end()};
}

/// As many steps as there are, all rows the same.
void run(BeamSearch& search, const std::vector<float>& logits) {
  while (!search.done()) {
    step(search, std::vector<std::vector<float>>(static_cast<size_t>(search.rows()), logits));
  }
}

TEST(BeamSearch, NamesParentsAndTokensOfTheBest) {
  BeamSearch search({.beam_width = 2, .max_new_tokens = 3}, {}, Ids{7});
  EXPECT_EQ(step(search, {logs({0.5f, 0.4f, 0.1f})}), (Steps{{0, 0}, {0, 1}}));
  // 0.5 x {0.4, 0.3, 0.3} and 0.4 x {0.05, 0.05, 0.9}
  EXPECT_EQ(step(search, {logs({0.4f, 0.3f, 0.3f}), logs({0.05f, 0.05f, 0.9f})}),
            (Steps{{1, 2}, {0, 0}}));
  EXPECT_EQ(Ids(search.tokens(0).begin(), search.tokens(0).end()), (Ids{1, 2}));
  EXPECT_EQ(Ids(search.tokens(1).begin(), search.tokens(1).end()), (Ids{0, 0}));
  EXPECT_NEAR(search.cumulative_log_prob(0), std::log(0.36), 1e-6);
  EXPECT_FALSE(search.done());
  EXPECT_EQ(step(search, {logs({0.3f, 0.3f, 0.4f}), logs({0.9f, 0.05f, 0.05f})}), Steps{});
  EXPECT_TRUE(search.done());
  EXPECT_EQ(search.rows(), 0);
  ASSERT_EQ(search.hypotheses().size(), 2U);  // 0.2 x 0.9 and 0.36 x 0.4
  EXPECT_EQ(search.hypotheses()[0].tokens, (Ids{0, 0, 0}));
  EXPECT_EQ(search.hypotheses()[1].tokens, (Ids{1, 2, 2}));
  EXPECT_EQ(search.hypotheses()[0].rows, (Ids{0, 0, 1}));
  EXPECT_EQ(search.hypotheses()[1].rows, (Ids{0, 1, 0}));
  EXPECT_NEAR(search.hypotheses()[1].log_probs[1], std::log(0.9), 1e-6);
  EXPECT_NEAR(search.hypotheses()[0].cumulative_log_prob, std::log(0.18), 1e-6);
  EXPECT_NEAR(search.hypotheses()[0].score, std::log(0.18) / 3, 1e-6);
  EXPECT_EQ(search.hypotheses()[0].end, BeamEnd::kLength);
}

TEST(BeamSearch, OutputsAreHypothesesAndRunningBeamsByScore) {
  const Ids ends = {2};
  BeamSearch search({.beam_width = 2, .max_new_tokens = 9, .early_stopping = EarlyStopping::kNever},
                    {}, Ids{7}, ends);
  step(search, {logs({0.5f, 0.3f, 0.2f})});
  ASSERT_EQ(search.outputs().size(), 2U);
  EXPECT_EQ(search.outputs()[0].tokens, (Ids{0}));
  EXPECT_EQ(search.outputs()[0].end, BeamEnd::kRunning);
  // A hypothesis of 0.5 x 0.8, and running beams of 0.3 x 0.9 and 0.5 x 0.1.
  step(search, {logs({0.1f, 0.1f, 0.8f}), logs({0.9f, 0.05f, 0.05f})});
  const std::vector<BeamHypothesis> outputs = search.outputs();
  ASSERT_EQ(outputs.size(), 2U);
  EXPECT_EQ(outputs[0].tokens, (Ids{0, 2}));
  EXPECT_EQ(outputs[0].end, BeamEnd::kEndId);
  EXPECT_EQ(outputs[1].tokens, (Ids{1, 0}));
  EXPECT_EQ(outputs[1].end, BeamEnd::kRunning);
  EXPECT_NEAR(outputs[1].score, std::log(0.27) / 2, 1e-6);
  EXPECT_EQ(outputs[1].log_probs.size(), 2U);
}

TEST(BeamSearch, ARestartedSearchFindsTheSame) {
  BeamSearch search({.beam_width = 2, .max_new_tokens = 4}, {.repetition_penalty = 1.5f}, Ids{1});
  const std::vector<float> logits = logs({0.5f, 0.3f, 0.15f, 0.05f});
  step(search, {logits});
  step(search, {logits, logits});
  search.restart(Ids{1});
  EXPECT_EQ(search.rows(), 1);
  run(search, logits);
  BeamSearch other({.beam_width = 2, .max_new_tokens = 4}, {.repetition_penalty = 1.5f}, Ids{1});
  run(other, logits);
  ASSERT_EQ(search.hypotheses().size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(search.hypotheses()[i].tokens, other.hypotheses()[i].tokens);
    EXPECT_EQ(search.hypotheses()[i].score, other.hypotheses()[i].score);
  }
  EXPECT_EQ(search.outputs().size(), 2U);
}

TEST(BeamSearch, TiesGoToTheBetterBeamAndTheSmallerId) {
  BeamSearch search({.beam_width = 3, .max_new_tokens = 9}, {}, {});
  const std::vector<float> even(4, 0.0f);
  EXPECT_EQ(step(search, {even}), (Steps{{0, 0}, {0, 1}, {0, 2}}));
  EXPECT_EQ(step(search, {even, even, even}), (Steps{{0, 0}, {0, 1}, {0, 2}}));
}

TEST(BeamSearch, FewTokensMakeFewBeams) {
  BeamSearch search({.beam_width = 5, .max_new_tokens = 9}, {}, {});
  EXPECT_EQ(step(search, {{3, 2, -kInfinity}}).size(), 2U);
  EXPECT_EQ(step(search, {{3, 2, -kInfinity}, {3, 2, 1}}).size(), 5U);
}

/// An end id among the best beam_width candidates is a hypothesis, behind them it is nothing.
TEST(BeamSearch, EndsAmongTheBestCount) {
  BeamSearch search({.beam_width = 1, .max_new_tokens = 9, .length_penalty = 0}, {}, {}, Ids{2});
  EXPECT_EQ(step(search, {logs({0.2f, 0.5f, 0.3f})}), (Steps{{0, 1}}));
  EXPECT_TRUE(search.hypotheses().empty());
  EXPECT_EQ(step(search, {logs({0.4f, 0.1f, 0.5f})}), Steps{});
  ASSERT_TRUE(search.done()) << "0.5 x 0.4 cannot become better than 0.5 x 0.5";
  EXPECT_EQ(search.hypotheses()[0].tokens, (Ids{1, 2}));
  EXPECT_EQ(search.hypotheses()[0].end, BeamEnd::kEndId);
}

TEST(BeamSearch, StopWordsEndABeam) {
  BeamSearch search({.beam_width = 2, .max_new_tokens = 9, .length_penalty = 0}, {}, Ids{0}, {},
                    {.stop_words = {{0, 1}, {2, 2, 2}}});
  EXPECT_EQ(step(search, {logs({0.4f, 0.5f, 0.1f})}), (Steps{{0, 1}, {0, 0}}))
      << "the prompt's 0 is no part of a stop word";
  EXPECT_EQ(step(search, {logs({0.2f, 0.2f, 0.6f}), logs({0.3f, 0.5f, 0.2f})}),
            (Steps{{0, 2}, {1, 0}}));
  ASSERT_EQ(search.hypotheses().size(), 1U);
  EXPECT_EQ(search.hypotheses()[0].tokens, (Ids{0, 1}));
  EXPECT_EQ(search.hypotheses()[0].end, BeamEnd::kStopWord);
}

TEST(BeamSearch, DiversityLiftsLaterBeams) {
  const auto second_step = [](float rate) {
    BeamSearch search({.beam_width = 2, .max_new_tokens = 9, .diversity_rate = rate}, {}, {});
    EXPECT_EQ(step(search, {logs({0.5f, 0.4f, 0.1f})}), (Steps{{0, 0}, {0, 1}}));
    const Steps steps = step(search, {logs({0.6f, 0.4f, 0}), logs({0.4f, 0.3f, 0.3f})});
    EXPECT_NEAR(search.cumulative_log_prob(0), std::log(steps[0].parent == 0 ? 0.3 : 0.16), 1e-6)
        << "diversity is no part of a sum";
    return steps;
  };
  EXPECT_EQ(second_step(0), (Steps{{0, 0}, {0, 1}}));     // 0.3, 0.2 against 0.16
  EXPECT_EQ(second_step(0.4f), (Steps{{0, 0}, {1, 0}}));  // 0.16 e^0.4 = 0.239
  EXPECT_EQ(second_step(0.7f), (Steps{{1, 0}, {0, 0}}));  // 0.322
}

TEST(BeamSearch, PenaltiesChangeLogitsAndExclusionsLogProbs) {
  // Before the log-softmax: token 0 falls from ln 8 to ln 4, so that it has 4/6.
  BeamSearch penalised({.beam_width = 2, .max_new_tokens = 1}, {.presence_penalty = std::log(2.0f)},
                       Ids{0});
  step(penalised, {logs({8, 1, 1})});
  EXPECT_NEAR(penalised.hypotheses()[0].cumulative_log_prob, std::log(4.0 / 6), 1e-6);
  // After it: token 1 has the 1/10 that it had.
  BeamSearch excluded({.beam_width = 2, .max_new_tokens = 1}, {}, {}, {}, {.bad_words = {{0}}});
  step(excluded, {logs({8, 1, 1})});
  ASSERT_EQ(excluded.hypotheses().size(), 2U);
  EXPECT_EQ(excluded.hypotheses()[0].tokens, Ids{1});
  EXPECT_NEAR(excluded.hypotheses()[0].cumulative_log_prob, std::log(0.1), 1e-6);
}

TEST(BeamSearch, TemperatureDividesLogits) {
  for (const float temperature : {0.0f, 1.0f, 2.0f, 1e-38f}) {
    BeamSearch search({.beam_width = 1, .max_new_tokens = 1}, {.temperature = temperature}, {});
    EXPECT_EQ(search.best_needed(), temperature == 0 || temperature == 1 ? 2 : 0);
    step(search, {{4, 0}});
    const double exact =
        temperature == 1e-38f ? 0 : -std::log1p(std::exp(-4 / (temperature == 2 ? 2.0 : 1.0)));
    EXPECT_NEAR(search.hypotheses()[0].cumulative_log_prob, exact, 1e-6);
  }
}

TEST(BeamSearch, ALargeBiasForcesTheBestBeam) {
  BeamSearch search({.beam_width = 2, .max_new_tokens = 4}, {}, {}, {},
                    {.embedding_bias = {0, 0, kLargest, 0}});
  run(search, {5, 6, 1, 2});
  EXPECT_EQ(search.hypotheses()[0].tokens, (Ids{2, 2, 2, 2}));
  EXPECT_EQ(search.hypotheses()[0].cumulative_log_prob, 0);
}

TEST(BeamSearch, HistoriesFollowTheirBeams) {
  BeamSearch search({.beam_width = 2, .max_new_tokens = 3}, {.no_repeat_ngram_size = 1}, Ids{3});
  run(search, {4, 3, 2, 9});
  ASSERT_EQ(search.hypotheses().size(), 2U);
  for (const BeamHypothesis& hypothesis : search.hypotheses()) {
    Ids sorted = hypothesis.tokens;
    std::ranges::sort(sorted);
    EXPECT_EQ(sorted, (Ids{0, 1, 2}));
  }
}

TEST(BeamSearch, NothingLeftIsAnErrorUnlessThereIsAHypothesis) {
  const SamplingParams no_repeats = {.no_repeat_ngram_size = 1};
  BeamSearch search({.beam_width = 2, .max_new_tokens = 9}, no_repeats, {});
  step(search, {{1, 0}});
  step(search, {{1, 0}, {1, 0}});
  search.add_logits(std::vector<float>{1, 0});
  search.add_logits(std::vector<float>{1, 0});
  expect_error(ErrorCode::kInvalidArgument, "all tokens of all beams are excluded",
               [&] { search.advance(); });
  EXPECT_EQ(search.tokens(0).size(), 2U) << "what was found is still there";
  BeamSearch ended({.beam_width = 2, .max_new_tokens = 9}, no_repeats, {}, Ids{1});
  run(ended, {1, 0});
  EXPECT_GT(ended.hypotheses().size(), 0U);
}

TEST(BeamSearch, SaysWhenTheBestAreEnough) {
  const auto needed = [](const SamplingParams& params, const TokenConstraints& constraints = {}) {
    return BeamSearch({.beam_width = 4}, params, {}, Ids{1}, constraints).best_needed();
  };
  EXPECT_EQ(needed({}), 8);
  EXPECT_EQ(needed({}, {.stop_words = {{1}, {2, 3}}}), 16);
  EXPECT_EQ(needed({.min_length = 1}), 0);
  EXPECT_EQ(needed({}, {.bad_words = {{1}}}), 0);
}

TEST(BeamSearch, BadInputIsRefused) {
  const auto refused = [](const char* part, const BeamSearchOptions& options) {
    expect_error(ErrorCode::kInvalidArgument, part, [&] { BeamSearch(options, {}, {}); });
  };
  refused("beam_width 0", {.beam_width = 0});
  refused("max_new_tokens 0", {.max_new_tokens = 0});
  refused("length_penalty", {.length_penalty = kInfinity});
  refused("diversity_rate", {.diversity_rate = std::numeric_limits<float>::quiet_NaN()});
  expect_error(ErrorCode::kInvalidArgument, "top_p", [] { BeamSearch({}, {.top_p = 2}, {}); });
  expect_error(ErrorCode::kInvalidArgument, "bad_words[0] is empty",
               [] { BeamSearch({}, {}, {}, {}, {.bad_words = {{}}}); });
  BeamSearch search({.max_new_tokens = 2}, {}, {});
  expect_error(ErrorCode::kInvalidArgument, "token 1 is infinite",
               [&] { search.add_logits(std::vector<float>{0, kInfinity}); });
  expect_error(ErrorCode::kInvalidArgument, "not a number", [&] {
    search.add_best(Ids{0, 1}, std::vector<float>{1, 0}, std::numeric_limits<float>::quiet_NaN());
  });
}

}  // namespace
}  // namespace headrace
