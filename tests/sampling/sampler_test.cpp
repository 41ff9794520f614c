#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "sampling/softmax.h"
#include "tests/sampling/exact_distribution.h"
#include "tests/support/error_matchers.h"

namespace headrace {
namespace {

using testing::bumpy_logits;
using testing::exact_distribution;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

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
        SamplingParams{.temperature = 2, .top_k = 128, .top_p = 0.8f},
        SamplingParams{.temperature = 2, .top_k = 50, .top_p = 0.9f, .min_p = 0.2f}}) {
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
  EXPECT_EQ(Sampler({.no_repeat_ngram_size = 2}).best_needed(), 0);
  EXPECT_EQ(Sampler({}, {}, {}, {.bad_words = {{1}}}).best_needed(), 0);
  EXPECT_EQ(Sampler({}, {}, {}, {.embedding_bias = {1}}).best_needed(), 0);
  EXPECT_EQ(Sampler({}, {}, {}, {.stop_words = {{1}}}).best_needed(), 1);
  EXPECT_EQ(Sampler({.top_k = 40, .min_p = 0.1f, .top_p_decay = 0.9f}).best_needed(), 40);
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

TEST(Sampler, ConstraintsDecide) {
  const std::vector<float> logits = {1, 2, 5, 4};
  Sampler bad({}, std::vector<int32_t>{0}, {}, {.bad_words = {{0, 2}, {3, 3}}});
  EXPECT_EQ(bad.sample(logits).id, 3);  // 0 2 would be one
  EXPECT_EQ(bad.sample(logits).id, 2);
  Sampler repeats({.no_repeat_ngram_size = 2}, std::vector<int32_t>{0});
  std::vector<int32_t> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(repeats.sample(logits).id);
  EXPECT_EQ(ids, (std::vector<int32_t>{2, 2, 3, 2, 1}));
}

TEST(Sampler, ALargeBiasForcesAToken) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  const std::vector<float> logits = {9, 2, -kInfinity, 4};
  for (const SamplingParams& params :
       {SamplingParams{}, SamplingParams{.temperature = 0.1f, .top_k = 0, .top_p = 1},
        SamplingParams{.top_k = 3, .top_p = 0.9f, .min_p = 0.1f}}) {
    Sampler sampler(params, {}, {}, {.embedding_bias = {0, kLargest, 0, 0}});
    for (int i = 0; i < 10; ++i) {
      const SampledToken token = sampler.sample(logits);
      EXPECT_EQ(token.id, 1);
      EXPECT_NEAR(token.log_prob, 2 - (9 + std::log1p(std::exp(-5.0) + std::exp(-7.0))), 1e-5)
          << "the model's own";
    }
  }
}

TEST(Sampler, NothingLeftIsAnError) {
  const std::vector<float> logits = {1, 2};
  Sampler sampler({.no_repeat_ngram_size = 1});
  EXPECT_EQ(sampler.sample(logits).id, 1);
  EXPECT_EQ(sampler.sample(logits).id, 0);
  testing::expect_error(ErrorCode::kInvalidArgument, "all 2 tokens are excluded",
                        [&] { sampler.sample(logits); });
  EXPECT_EQ(sampler.generated(), 2);
  testing::expect_error(ErrorCode::kInvalidArgument, "embedding_bias has 1 values",
                        [&] { Sampler({}, {}, {}, {.embedding_bias = {1}}).sample(logits); });
}

/// With two tokens of 0.6 and 0.4, token 0 alone is drawn once top_p is 0.6 or less.
TEST(Sampler, TopPDecaysAndComesBack) {
  const std::vector<float> logits = {std::log(0.6f), std::log(0.4f)};
  const std::vector<float> reset = {-kInfinity, 0};  // token 1 and no other
  const auto draws_both = [&](const SamplingParams& params, std::vector<int> forced) {
    bool seen = false;
    for (uint64_t seed = 0; seed < 40 && !seen; ++seed) {
      SamplingParams seeded = params;
      seeded.random_seed = seed;
      Sampler sampler(seeded);
      for (const int id : forced) {
        sampler.sample(id == 1 ? reset : std::vector<float>{0, -kInfinity});
      }
      seen = sampler.sample(logits).id == 1;
    }
    return seen;
  };
  // top_p runs 0.9, 0.72, 0.576.
  const SamplingParams params{.top_k = 0, .top_p = 0.9f, .top_p_decay = 0.8f};
  EXPECT_TRUE(draws_both(params, {}));
  EXPECT_TRUE(draws_both(params, {0}));
  EXPECT_FALSE(draws_both(params, {0, 0}));
  SamplingParams floor = params;
  floor.top_p_min = 0.7f;
  EXPECT_TRUE(draws_both(floor, {0, 0, 0, 0}));
  SamplingParams back = params;
  back.top_p_reset_id = 1;
  EXPECT_FALSE(draws_both(back, {0, 0, 0}));
  EXPECT_TRUE(draws_both(back, {0, 0, 0, 1}));
  SamplingParams unlimited = params;  // no top_p is a top_p of 1
  unlimited.top_k = 2;
  unlimited.top_p = 0;
  EXPECT_TRUE(draws_both(unlimited, {0, 0}));      // 0.64
  EXPECT_FALSE(draws_both(unlimited, {0, 0, 0}));  // 0.512
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
