#include "sampling/sampling_params.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::expect_error;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect_refused(const char* name, const SamplingParams& params) {
  expect_error(ErrorCode::kInvalidArgument, name, [&] { validate_sampling_params(params); });
}

TEST(SamplingParams, DefaultsAreGreedy) {
  const SamplingParams params;
  validate_sampling_params(params);
  EXPECT_TRUE(is_greedy(params));
}

TEST(SamplingParams, LimitsAreIncluded) {
  validate_sampling_params({.temperature = 0, .top_k = 0, .top_p = 0});
  validate_sampling_params({.top_k = std::numeric_limits<int32_t>::max(), .top_p = 1});
  validate_sampling_params(
      {.repetition_penalty = 0.5f, .presence_penalty = -2, .frequency_penalty = -2});
}

TEST(SamplingParams, NamesWhatCannotBe) {
  for (const float bad : {-0.1f, kNan, kInfinity, -kInfinity}) {
    expect_refused("temperature", {.temperature = bad});
    expect_refused("repetition_penalty", {.repetition_penalty = bad});
    expect_refused("top_p", {.top_p = bad});
    expect_refused("min_p", {.min_p = bad});
    expect_refused("top_p_decay", {.top_p_decay = bad});
    expect_refused("top_p_min", {.top_p_min = bad});
  }
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    expect_refused("presence_penalty", {.presence_penalty = bad});
    expect_refused("frequency_penalty", {.frequency_penalty = bad});
  }
  expect_refused("top_p", {.top_p = 1.01f});
  expect_refused("top_k", {.top_k = -1});
  expect_refused("repetition_penalty", {.repetition_penalty = 0});
  expect_refused("min_length", {.min_length = -1});
  expect_refused("no_repeat_ngram_size", {.no_repeat_ngram_size = -1});
  expect_refused("min_p", {.min_p = 1.01f});
  expect_refused("top_p_decay", {.top_p_decay = 0});
  expect_refused("top_p_decay", {.top_p_decay = 1.01f});
  expect_refused("top_p_min", {.top_p_min = 0});
  expect_refused("top_p_reset_id", {.top_p_reset_id = -2});
}

TEST(SamplingParams, WhatIsGreedy) {
  EXPECT_TRUE(is_greedy({.top_k = 1, .top_p = 0.9f}));
  EXPECT_TRUE(is_greedy({.top_k = 0, .top_p = 0}));
  EXPECT_TRUE(is_greedy({.temperature = 0, .top_k = 40}));
  EXPECT_FALSE(is_greedy({.top_k = 2, .top_p = 0}));
  EXPECT_FALSE(is_greedy({.top_k = 0, .top_p = 0.9f}));
  EXPECT_FALSE(is_greedy({.top_k = 0, .top_p = 1}));
}

}  // namespace
}  // namespace headrace
