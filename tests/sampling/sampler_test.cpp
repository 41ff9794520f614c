#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "sampling/softmax.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The distribution that the parameters describe, step by step and in double.
std::vector<double> exact_distribution(const std::vector<float>& logits,
                                       const SamplingParams& params,
                                       const std::map<int32_t, int>& counts = {}) {
  std::vector<double> values(logits.begin(), logits.end());
  for (double& value : values) value /= static_cast<double>(params.temperature);
  for (const auto& [id, count] : counts) {
    double& value = values[static_cast<size_t>(id)];
    const auto repetition = static_cast<double>(params.repetition_penalty);
    value = value < 0 ? value * repetition : value / repetition;
    value -= static_cast<double>(params.presence_penalty) +
             static_cast<double>(params.frequency_penalty) * count;
  }
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] > values[b]; });
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < order.size()) {
    order.resize(static_cast<size_t>(params.top_k));
  }
  const double maximum = values[order[0]];
  double total = 0;
  for (const size_t id : order) total += std::exp(values[id] - maximum);
  std::vector<double> result(values.size());
  double sum = 0;
  for (const size_t id : order) {
    result[id] = std::exp(values[id] - maximum) / total;
    sum += result[id];
    if (params.top_p > 0 && params.top_p < 1 && sum >= static_cast<double>(params.top_p)) break;
  }
  for (double& probability : result) probability /= sum;
  return result;
}

/// Draws the first token after `prompt` from many seeds and compares with the exact distribution:
/// no token outside it, and a chi-square statistic within five standard deviations of its mean.
void expect_distribution(const std::vector<float>& logits, SamplingParams params,
                         const std::vector<int32_t>& prompt = {}) {
  constexpr int kDraws = 40'000;
  std::map<int32_t, int> counts;
  for (const int32_t id : prompt) ++counts[id];
  const std::vector<double> exact = exact_distribution(logits, params, counts);
  std::vector<int> drawn(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    params.random_seed = static_cast<uint64_t>(i);
    ++drawn[static_cast<size_t>(Sampler(params, prompt).sample(logits).id)];
  }
  double chi_square = 0;
  int cells = 0;
  for (size_t id = 0; id < exact.size(); ++id) {
    if (exact[id] == 0) {
      EXPECT_EQ(drawn[id], 0) << "token " << id;
      continue;
    }
    const double expected = exact[id] * kDraws;
    chi_square += (drawn[id] - expected) * (drawn[id] - expected) / expected;
    ++cells;
  }
  const double freedom = std::max(cells - 1, 1);
  EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom)) << cells << " tokens";
}

std::vector<float> bumpy_logits(size_t size) {
  std::vector<float> logits;
  for (size_t i = 0; i < size; ++i) {
    logits.push_back(2 * std::sin(static_cast<float>(i) * 1.7f) - static_cast<float>(i % 5) * 0.3f);
  }
  return logits;
}

TEST(Sampler, GreedyTakesTheLowestIdOfTheLargest) {
  const std::vector<float> logits = {0, 2, 5, 5, -kInfinity};
  EXPECT_EQ(Sampler({}).sample(logits).id, 2);
  EXPECT_EQ(Sampler({.temperature = 0, .top_k = 0, .top_p = 0.9f}).sample(logits).id, 2);
  EXPECT_EQ(Sampler({.temperature = 1e-30f}).sample(logits).id, 2);
}

TEST(Sampler, LogProbIsThatOfTheModel) {
  const std::vector<float> logits = {1, 2, 3, -kInfinity};
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  Sampler greedy({.temperature = 0.5f, .repetition_penalty = 1000.0f});
  const SampledToken first = greedy.sample(logits);
  EXPECT_EQ(first.id, 2);
  EXPECT_NEAR(first.log_prob, 3 - std::log(sum), 1e-6);
  const SampledToken second = greedy.sample(logits);  // token 2 is penalised now, its rival is not
  EXPECT_EQ(second.id, 1);
  EXPECT_NEAR(second.log_prob, 2 - std::log(sum), 1e-6);
  EXPECT_NEAR(greedy.cumulative_log_prob(), 5 - 2 * std::log(sum), 1e-6);
  EXPECT_EQ(greedy.generated(), 2);
}

TEST(Sampler, DrawsFromTheWholeDistribution) {
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 1});
  expect_distribution(bumpy_logits(30), {.temperature = 0.5f, .top_k = 0, .top_p = 1});
  expect_distribution(bumpy_logits(30), {.temperature = 3, .top_k = 30});
}

TEST(Sampler, DrawsFromTheBest) {
  expect_distribution(bumpy_logits(30), {.top_k = 5});
  expect_distribution(bumpy_logits(30), {.temperature = 2, .top_k = 29});
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 0.7f});
  expect_distribution(bumpy_logits(30), {.top_k = 8, .top_p = 0.6f});
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 1e-6f});
  expect_distribution(std::vector<float>(10, 1.0f), {.top_k = 4});  // ties: the lowest ids stay
}

/// Whoever has the logits may find the likeliest tokens: the choice is the same.
TEST(Sampler, ChoosesTheSameFromTheBestAlone) {
  std::vector<float> logits = bumpy_logits(300);
  logits[17] = logits[5];  // of equal logits the smaller id comes first
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::vector<float> sorted;
  for (const int32_t id : order) sorted.push_back(logits[static_cast<size_t>(id)]);
  const auto log_sum = static_cast<float>(log_sum_exp(logits, sorted[0])) - sorted[0];
  for (const SamplingParams& params :
       {SamplingParams{}, SamplingParams{.temperature = 2, .top_k = 50},
        SamplingParams{.temperature = 2, .top_k = 128, .top_p = 0.8f}}) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      SamplingParams seeded = params;
      seeded.random_seed = seed;
      Sampler from_all(seeded);
      Sampler from_best(seeded);
      const auto needed = static_cast<size_t>(from_best.best_needed());
      const SampledToken expected = from_all.sample(logits);
      const SampledToken token = from_best.sample_best(std::span(order).first(needed),
                                                       std::span(sorted).first(needed), log_sum);
      EXPECT_EQ(token.id, expected.id);
      EXPECT_NEAR(token.log_prob, expected.log_prob, 1e-5);
    }
  }
}

TEST(Sampler, SaysWhenTheBestAreNotEnough) {
  EXPECT_EQ(Sampler({}).best_needed(), 1);
  EXPECT_EQ(Sampler({.top_k = 40}).best_needed(), 40);
  EXPECT_EQ(Sampler({.top_k = 0, .top_p = 0.9f}).best_needed(), 0);
  EXPECT_EQ(Sampler({.presence_penalty = 1}).best_needed(), 0);
  EXPECT_EQ(Sampler({.min_length = 2}, {}, std::vector<int32_t>{3}).best_needed(), 0);
}

TEST(Sampler, TheNucleusMayBeLong) {
  std::vector<float> logits(5000, 0.0f);
  logits[4321] = 3;
  // 5,000 tokens of nearly equal weight: exp(3) + 4,999; 90 % needs about 4,500 of them.
  const SamplingParams params{.top_k = 0, .top_p = 0.9f};
  const std::vector<double> exact = exact_distribution(logits, params);
  std::vector<int> drawn(logits.size());
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SamplingParams seeded = params;
    seeded.random_seed = seed;
    ++drawn[static_cast<size_t>(Sampler(seeded).sample(logits).id)];
  }
  for (size_t id = 0; id < exact.size(); ++id) {
    if (exact[id] == 0) {
      EXPECT_EQ(drawn[id], 0) << id;
    }
  }
  EXPECT_GT(drawn[4321], 0);
  const auto different = std::count_if(drawn.begin(), drawn.end(), [](int n) { return n > 0; });
  EXPECT_GT(different, 2000);
}

TEST(Sampler, PenaltiesChangeTheDistribution) {
  const std::vector<int32_t> prompt = {3, 3, 3, 7, 11, 3};
  const SamplingParams all{.temperature = 0.8f, .top_k = 0, .top_p = 1};
  SamplingParams repetition = all;
  repetition.repetition_penalty = 1.5f;
  expect_distribution(bumpy_logits(20), repetition, prompt);
  SamplingParams presence = all;
  presence.presence_penalty = 0.7f;
  expect_distribution(bumpy_logits(20), presence, prompt);
  SamplingParams frequency = all;
  frequency.frequency_penalty = -0.3f;
  expect_distribution(bumpy_logits(20), frequency, prompt);
}

TEST(Sampler, GeneratedTokensCountForPenalties) {
  const std::vector<float> logits = {5, 4.5f, 4};
  Sampler sampler({.frequency_penalty = 0.3f});
  std::vector<int32_t> ids;
  for (int i = 0; i < 7; ++i) ids.push_back(sampler.sample(logits).id);
  // Token 0 falls by 0.3 a time: 5, 4.7, 4.4; token 1 then 4.5, 4.2; ...
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 0, 1, 0, 1, 0, 2}));
}

TEST(Sampler, TokensOutsideTheLogitsDoNotCount) {
  Sampler sampler({.presence_penalty = 1}, std::vector<int32_t>{-1, 3, 1'000'000},
                  std::vector<int32_t>{9});
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 2, 0}).id, 1);
}

TEST(Sampler, MinLengthKeepsEndIdsAway) {
  const std::vector<float> logits = {1, 9, 5, 8};
  const std::vector<int32_t> ends = {1, 3};
  Sampler sampler({.min_length = 2}, {}, ends);
  EXPECT_EQ(sampler.sample(logits).id, 2);
  EXPECT_EQ(sampler.sample(logits).id, 2);
  EXPECT_EQ(sampler.sample(logits).id, 1);
}

TEST(Sampler, DrawsDependOnSeedAndPositionAlone) {
  const std::vector<float> logits = bumpy_logits(50);
  const SamplingParams params{.top_k = 0, .top_p = 0.95f, .random_seed = 42};
  const std::vector<int32_t> prompt = {1, 2, 3};
  const auto generate = [&](const SamplingParams& p, std::span<const int32_t> from) {
    Sampler sampler(p, from);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.sample(logits).id);
    return ids;
  };
  const std::vector<int32_t> ids = generate(params, prompt);
  EXPECT_EQ(generate(params, prompt), ids);
  SamplingParams other = params;
  other.random_seed = 43;
  EXPECT_NE(generate(other, prompt), ids);
  // Generated tokens that become prompt change nothing: the sequence goes on as it would have.
  std::vector<int32_t> longer = prompt;
  longer.insert(longer.end(), ids.begin(), ids.begin() + 5);
  const std::vector<int32_t> rest = generate(params, longer);
  EXPECT_TRUE(std::equal(ids.begin() + 5, ids.end(), rest.begin()));
}

TEST(Sampler, ChoosesATokenThatTheLimitsAllow) {
  rc::check("the token has a probability", [] {
    const auto numbers = *rc::gen::nonEmpty<std::vector<int8_t>>();
    std::vector<float> logits;
    for (const int8_t number : numbers) {
      logits.push_back(number == -128 ? -kInfinity : static_cast<float>(number) / 8);
    }
    if (*std::max_element(logits.begin(), logits.end()) == -kInfinity) logits[0] = 0;
    const SamplingParams params{.temperature = *rc::gen::element(0.01f, 0.7f, 1.0f, 4.0f),
                                .top_k = *rc::gen::inRange(0, 20),
                                .top_p = *rc::gen::element(0.0f, 0.1f, 0.5f, 0.99f, 1.0f),
                                .random_seed = *rc::gen::arbitrary<uint64_t>()};
    const SampledToken token = Sampler(params).sample(logits);
    RC_ASSERT(token.id >= 0 && static_cast<size_t>(token.id) < logits.size());
    const float logit = logits[static_cast<size_t>(token.id)];
    RC_ASSERT(logit > -kInfinity);
    RC_ASSERT(token.log_prob <= 0);
    const auto larger =
        std::count_if(logits.begin(), logits.end(), [&](float l) { return l > logit; });
    if (params.top_k > 0) RC_ASSERT(larger < params.top_k);
    if (params.top_k == 1) RC_ASSERT(larger == 0);
  });
}

TEST(Sampler, BadLogitsAreRefused) {
  const std::vector<float> logits = {0, std::numeric_limits<float>::quiet_NaN(), 1};
  for (const SamplingParams& params :
       {SamplingParams{}, SamplingParams{.top_k = 0, .top_p = 0.5f}, SamplingParams{.top_k = 2}}) {
    testing::expect_error(ErrorCode::kInvalidArgument, "token 1 is not a number",
                          [&] { Sampler(params).sample(logits); });
  }
  testing::expect_error(ErrorCode::kInvalidArgument, "top_p", [] { Sampler({.top_p = 2}); });
}

}  // namespace
}  // namespace headrace
