// Compares what is drawn with the exact distribution by Pearson's chi-square test. Seeds are fixed,
// so that a test passes always or never; were they not, a correct sampler would fail one comparison
// in 10,000.

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "sampling/sampler.h"
#include "tests/sampling/exact_distribution.h"

namespace headrace {
namespace {

using testing::bumpy_logits;
using testing::exact_distribution;

constexpr int kDraws = 40'000;
constexpr double kFewest = 5;  // the approximation wants so many expected draws in a cell

/// The value that a chi-square variable exceeds with probability 1e-4 (Wilson and Hilferty 1931; a
/// little too high for few degrees of freedom).
double critical_value(int freedom) {
  constexpr double kNormalQuantile = 3.719;
  const double spread = 2.0 / (9.0 * freedom);
  return freedom * std::pow(1 - spread + kNormalQuantile * std::sqrt(spread), 3);
}

/// `drawn` against `exact`. Tokens that are expected rarely share one cell.
void expect_drawn_from(const std::vector<double>& exact, const std::vector<int>& drawn) {
  double chi_square = 0;
  int cells = 0;
  const auto add = [&](double expected, double observed) {
    chi_square += (observed - expected) * (observed - expected) / expected;
    ++cells;
  };
  double rare_expected = 0;
  double rare_observed = 0;
  for (size_t id = 0; id < exact.size(); ++id) {
    const double expected = exact[id] * kDraws;
    if (expected == 0) {
      EXPECT_EQ(drawn[id], 0) << "token " << id;
    } else if (expected < kFewest) {
      rare_expected += expected;
      rare_observed += drawn[id];
    } else {
      add(expected, drawn[id]);
    }
  }
  if (rare_expected >= kFewest) add(rare_expected, rare_observed);
  ASSERT_GT(cells, 0);
  if (cells > 1) {
    EXPECT_LT(chi_square, critical_value(cells - 1)) << cells << " cells";
  }
}

/// Draws the first token after `prompt` from many seeds.
std::vector<int> draw(const std::vector<float>& logits, SamplingParams params,
                      const std::vector<int32_t>& prompt) {
  std::vector<int> drawn(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    params.random_seed = static_cast<uint64_t>(i);
    ++drawn[static_cast<size_t>(Sampler(params, prompt).sample(logits).id)];
  }
  return drawn;
}

void expect_distribution(const std::vector<float>& logits, const SamplingParams& params,
                         const std::vector<int32_t>& prompt = {}) {
  std::map<int32_t, int> counts;
  for (const int32_t id : prompt) ++counts[id];
  expect_drawn_from(exact_distribution(logits, params, counts), draw(logits, params, prompt));
}

TEST(Distribution, CriticalValuesAreThoseOfTheTables) {
  EXPECT_NEAR(critical_value(10), 35.564, 0.5);
  EXPECT_NEAR(critical_value(30), 67.633, 0.5);
  EXPECT_NEAR(critical_value(1), 15.137, 1.5);
}

/// The test has teeth: the distribution of a slightly different temperature is told apart.
TEST(Distribution, ASmallDifferenceIsFound) {
  const std::vector<float> logits = bumpy_logits(30);
  const std::vector<int> drawn = draw(logits, {.temperature = 1.05f, .top_k = 0, .top_p = 1}, {});
  const std::vector<double> other = exact_distribution(logits, {.top_k = 0, .top_p = 1});
  double chi_square = 0;
  for (size_t id = 0; id < drawn.size(); ++id) {
    const double expected = other[id] * kDraws;
    chi_square += (drawn[id] - expected) * (drawn[id] - expected) / expected;
  }
  EXPECT_GT(chi_square, critical_value(29));
}

TEST(Distribution, Temperature) {
  for (const float temperature : {0.3f, 0.5f, 1.0f, 3.0f}) {
    expect_distribution(bumpy_logits(30), {.temperature = temperature, .top_k = 0, .top_p = 1});
  }
}

TEST(Distribution, TopK) {
  expect_distribution(bumpy_logits(30), {.top_k = 5});
  expect_distribution(bumpy_logits(30), {.temperature = 2, .top_k = 29});
  expect_distribution(bumpy_logits(30), {.temperature = 3, .top_k = 30});
  expect_distribution(std::vector<float>(10, 1.0f), {.top_k = 4});  // ties: the lowest ids stay
}

TEST(Distribution, TopP) {
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 0.7f});
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 1e-6f});
  expect_distribution(bumpy_logits(1000), {.temperature = 2, .top_k = 0, .top_p = 0.5f});
}

TEST(Distribution, MinP) {
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 1, .min_p = 0.1f});
  expect_distribution(bumpy_logits(30),
                      {.temperature = 0.5f, .top_k = 0, .top_p = 1, .min_p = 0.3f});
  expect_distribution(bumpy_logits(30), {.top_k = 0, .top_p = 1, .min_p = 1});
  expect_distribution(std::vector<float>(10, 1.0f), {.top_k = 0, .top_p = 1, .min_p = 1});
}

TEST(Distribution, AllLimitsTogether) {
  expect_distribution(bumpy_logits(30), {.top_k = 8, .top_p = 0.6f});
  expect_distribution(bumpy_logits(30), {.top_k = 12, .min_p = 0.4f});
  expect_distribution(bumpy_logits(30),
                      {.temperature = 1.5f, .top_k = 0, .top_p = 0.9f, .min_p = 0.2f});
  expect_distribution(bumpy_logits(100),
                      {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f});
}

TEST(Distribution, Penalties) {
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

/// Consecutive positions of one seed are as independent as seeds are.
TEST(Distribution, AlongOneSequence) {
  const std::vector<float> logits = bumpy_logits(30);
  const SamplingParams params{.temperature = 1.3f, .top_k = 20, .random_seed = 7, .min_p = 0.1f};
  Sampler sampler(params);
  std::vector<int> drawn(logits.size());
  for (int i = 0; i < kDraws; ++i) ++drawn[static_cast<size_t>(sampler.sample(logits).id)];
  expect_drawn_from(exact_distribution(logits, params), drawn);
}

}  // namespace
}  // namespace headrace
