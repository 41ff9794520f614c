#include "sampling/logit_rules.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

/// The ids that `rules` exclude after `tokens`, of a vocabulary of ten.
std::vector<int32_t> excluded(const LogitRules& rules, const std::vector<int32_t>& tokens) {
  std::vector<float> logits(10, 0.0f);
  rules.exclude(rules.start(tokens), logits);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] == -kInfinity) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

using Ids = std::vector<int32_t>;

TEST(LogitRules, BadWordsAreNotCompleted) {
  const LogitRules rules({}, {}, {.bad_words = {{3}, {4, 5}, {4, 5, 6}, {5, 5, 4, 7}}});
  EXPECT_EQ(excluded(rules, {}), (Ids{3}));
  EXPECT_EQ(excluded(rules, {1, 4}), (Ids{3, 5}));
  EXPECT_EQ(excluded(rules, {4, 5}), (Ids{3, 6}));
  EXPECT_EQ(excluded(rules, {4, 5, 1}), (Ids{3}));
  EXPECT_EQ(excluded(rules, {5, 4}), (Ids{3, 5})) << "the word of four is longer than that";
  EXPECT_EQ(excluded(rules, {0, 5, 5, 4}), (Ids{3, 5, 7}));
}

TEST(LogitRules, NgramsAreNotRepeated) {
  const auto with = [](int32_t size) { return LogitRules({.no_repeat_ngram_size = size}, {}, {}); };
  EXPECT_EQ(excluded(with(0), {1, 2, 1, 2}), (Ids{}));
  EXPECT_EQ(excluded(with(1), {7, 2, 7}), (Ids{2, 7}));
  EXPECT_EQ(excluded(with(2), {1, 2, 1, 3, 1}), (Ids{2, 3}));
  EXPECT_EQ(excluded(with(2), {1, 2, 3}), (Ids{}));
  EXPECT_EQ(excluded(with(2), {4, 4}), (Ids{4}));
  EXPECT_EQ(excluded(with(3), {1, 2, 3, 1, 2}), (Ids{3}));
  EXPECT_EQ(excluded(with(3), {1, 2, 1}), (Ids{}));
  EXPECT_EQ(excluded(with(3), {}), (Ids{}));
  EXPECT_EQ(excluded(with(std::numeric_limits<int32_t>::max()), {1, 1, 1}), (Ids{}));
}

TEST(LogitRules, TheOutputCountsAsThePromptDoes) {
  const LogitRules rules({.no_repeat_ngram_size = 2}, {}, {.bad_words = {{2, 8}}});
  TokenHistory history = rules.start(Ids{1});
  for (const int32_t id : {3, 1, 2, 1}) history.add(id);
  EXPECT_EQ(history.length(), 5);
  EXPECT_EQ(history.generated(), 4);
  std::vector<float> logits(10, 0.0f);
  rules.exclude(history, logits);
  EXPECT_EQ(logits[3], -kInfinity);
  EXPECT_EQ(logits[2], -kInfinity);
  EXPECT_EQ(logits[8], 0) << "after 2 alone";
}

TEST(LogitRules, ACopiedHistoryGoesItsOwnWay) {
  const LogitRules rules({.frequency_penalty = 1}, {}, {});
  TokenHistory first = rules.start(Ids{1});
  TokenHistory second = first;
  second.add(1);
  std::vector<float> logits = {0, 0};
  rules.penalise(first, logits);
  EXPECT_EQ(logits, (std::vector<float>{0, -1}));
  rules.penalise(second, logits);
  EXPECT_EQ(logits, (std::vector<float>{0, -3}));
}

TEST(LogitRules, TheBiasComesBeforeThePenalties) {
  const LogitRules rules({.temperature = 0.5f, .repetition_penalty = 2, .presence_penalty = 1}, {},
                         {.embedding_bias = {3, -4, 1}});
  std::vector<float> logits = {1, 1, 1};
  rules.penalise(rules.start(Ids{0, 1, 1}), logits);
  // (1 + 3) / 2 - 0.5 * 1; (1 - 4) * 2 - 0.5 * 1; 1 + 1.
  EXPECT_EQ(logits, (std::vector<float>{1.5f, -6.5f, 2}));
}

TEST(LogitRules, NumbersThatOverflowStayNumbers) {
  const LogitRules rules({.repetition_penalty = 1e-30f, .frequency_penalty = -kLargest}, {},
                         {.embedding_bias = {kLargest, -kLargest, -kInfinity, kLargest}});
  std::vector<float> logits = {kLargest, -kLargest, 5, 1e30f};
  rules.penalise(rules.start(Ids{0, 0, 1, 1, 2, 2}), logits);
  EXPECT_EQ(logits, (std::vector<float>{kLargest, -kInfinity, -kInfinity, kLargest}));
}

TEST(LogitRules, ABiasOfAnotherSizeIsRefused) {
  const LogitRules rules({}, {}, {.embedding_bias = {1, 2}});
  std::vector<float> logits = {1, 2, 3};
  testing::expect_error(ErrorCode::kInvalidArgument, "embedding_bias has 2 values",
                        [&] { rules.penalise(rules.start({}), logits); });
}

TEST(LogitRules, HostileInputIsRefusedAtOnce) {
  testing::expect_error(ErrorCode::kInvalidArgument, "bad_words[0] is empty",
                        [] { LogitRules({}, {}, {.bad_words = {{}}}); });
  testing::expect_error(ErrorCode::kInvalidArgument, "no_repeat_ngram_size",
                        [] { LogitRules({.no_repeat_ngram_size = -1}, {}, {}); });
}

TEST(LogitRules, SaysWhetherItChangesAnything) {
  const auto changes = [](const SamplingParams& params, const TokenConstraints& constraints = {}) {
    const LogitRules rules(params, Ids{1}, constraints);
    return rules.changes(rules.start({}));
  };
  EXPECT_FALSE(changes({.temperature = 2, .top_k = 9, .min_p = 0.5f}));
  EXPECT_FALSE(changes({}, {.stop_words = {{1}}}));
  EXPECT_TRUE(changes({.repetition_penalty = 2}));
  EXPECT_TRUE(changes({.min_length = 1}));
  EXPECT_TRUE(changes({.no_repeat_ngram_size = 3}));
  EXPECT_TRUE(changes({}, {.bad_words = {{1}}}));
  EXPECT_TRUE(changes({}, {.embedding_bias = {1}}));
}

}  // namespace
}  // namespace headrace
