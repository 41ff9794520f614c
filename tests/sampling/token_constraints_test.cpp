#include "sampling/token_constraints.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect_refused(const std::string& part, const TokenConstraints& constraints,
                    int64_t vocab_size = 10) {
  expect_error(ErrorCode::kInvalidArgument, part,
               [&] { validate_token_constraints(constraints, vocab_size); });
}

TEST(TokenConstraints, WhatIsGood) {
  validate_token_constraints({});
  validate_token_constraints({.bad_words = {{0}, {9, 9}},
                              .stop_words = {{5}},
                              .embedding_bias = std::vector<float>(10, -kInfinity)},
                             10);
  validate_token_constraints({.bad_words = {{1'000'000}}, .embedding_bias = {1, 2}});
}

TEST(TokenConstraints, NamesWhatCannotBe) {
  expect_refused("bad_words[1] is empty", {.bad_words = {{1}, {}}});
  expect_refused("stop_words[0] is empty", {.stop_words = {{}}});
  expect_refused("bad_words[0] holds token id 10, which is not in the vocabulary: use 0 to 9",
                 {.bad_words = {{1, 10}}});
  expect_refused("stop_words[1] holds token id -1", {.stop_words = {{1}, {2, -1}}}, 0);
  expect_refused("embedding_bias has 3 values: give one a token of the vocabulary, 10, or none",
                 {.embedding_bias = {0, 0, 0}});
  expect_refused("embedding_bias[1] is not a number",
                 {.embedding_bias = {0, std::numeric_limits<float>::quiet_NaN()}}, 0);
  expect_refused("embedding_bias[0] is infinite", {.embedding_bias = {kInfinity, 0}}, 2);
}

TEST(EndsWithWord, LooksAtTheTailAlone) {
  const std::vector<TokenWord> words = {{4, 5}, {7}, {1, 2, 3, 4, 6}};
  EXPECT_TRUE(ends_with_word(std::vector<int32_t>{1, 4, 5}, words));
  EXPECT_TRUE(ends_with_word(std::vector<int32_t>{4, 5}, words));
  EXPECT_TRUE(ends_with_word(std::vector<int32_t>{7}, words));
  EXPECT_FALSE(ends_with_word(std::vector<int32_t>{4, 5, 1}, words));
  EXPECT_FALSE(ends_with_word(std::vector<int32_t>{5}, words));
  EXPECT_FALSE(ends_with_word(std::vector<int32_t>{2, 3, 4, 6}, words)) << "begins in the prompt";
  EXPECT_FALSE(ends_with_word({}, words));
  EXPECT_FALSE(ends_with_word({}, std::vector<TokenWord>{{}}));
}

}  // namespace
}  // namespace headrace
