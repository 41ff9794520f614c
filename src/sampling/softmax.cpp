#include "sampling/softmax.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace headrace {
namespace {

constexpr size_t kLanes = 16;  // independent sums and maxima: short chains of dependent steps
constexpr size_t kBlock = 256;
constexpr float kLowest = -87.0f;  // e^x is a denormal below
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// e^x for x <= 0, but e^-87 (1.6e-38) for all x below -87. Written without a branch, though g++ 12
/// makes scalar code of the loop that calls it all the same.
inline float exp_limited(float x) {
  // Magnitudes order as integers do.
  const auto magnitude = static_cast<int32_t>(std::bit_cast<uint32_t>(x) & 0x7fffffffu);
  const float limited =
      -std::bit_cast<float>(std::min(magnitude, std::bit_cast<int32_t>(-kLowest)));
  // x = n ln2 + r: adding 1.5 * 2^23 leaves n in the low bits.
  constexpr float kRound = 12582912.0f;
  const float shifted = limited * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (limited - n * 0.693359375f) + n * 2.12194440e-4f;
  // Taylor's series: the first term left out is below r^8 / 8! = 5e-9 for |r| <= 0.35.
  float sum = 1.0f / 5040.0f;
  sum = sum * r + 1.0f / 720.0f;
  sum = sum * r + 1.0f / 120.0f;
  sum = sum * r + 1.0f / 24.0f;
  sum = sum * r + 1.0f / 6.0f;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;  // n, modulo 2^32
  return std::bit_cast<float>(std::bit_cast<uint32_t>(sum) + exponent);
}

[[noreturn]] void refuse_logits(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < kInfinity)) throw BadLogit(i, logits[i]);
  }
  fail(ErrorCode::kInvalidArgument,
       "[sampling] no token of {} can be chosen: leave at least one logit "
       "above -infinity",
       logits.size());
}

}  // namespace

BadLogit::BadLogit(size_t token, float value)
    : BadLogit(fmt::format("the logit of token {} is {}", token,
                           std::isnan(value) ? "not a number" : "infinite")) {}

BadLogit::BadLogit(const std::string& logit)
    : Error(
          ErrorCode::kInvalidArgument,
          fmt::format("[sampling] {}: the model's weights or activations overflow; where it is in "
                      "float16, a --dtype of more range may hold them",
                      logit)),
      logit_(logit) {}

bool all_good(std::span<const float> logits) {
  uint32_t bad = 0;
  for (const float logit : logits) bad |= logit < kInfinity ? 0u : 1u;
  return bad == 0;
}

float exp_nonpositive(float x) { return x < kLowest ? 0.0f : exp_limited(x); }

int32_t argmax(std::span<const float> logits) {
  std::array<float, kLanes> best;
  best.fill(-kInfinity);
  std::array<uint32_t, kLanes> bad{};
  const size_t whole = logits.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = logits[i + lane];
      best[lane] = value > best[lane] ? value : best[lane];
      bad[lane] |= value < kInfinity ? 0u : 1u;
    }
  }
  for (size_t i = whole; i < logits.size(); ++i) {
    best[0] = std::max(best[0], logits[i]);
    bad[0] |= logits[i] < kInfinity ? 0u : 1u;
  }
  const float maximum = *std::max_element(best.begin(), best.end());
  const bool any_bad = std::any_of(bad.begin(), bad.end(), [](uint32_t b) { return b != 0; });
  if (any_bad || maximum == -kInfinity) refuse_logits(logits);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), maximum) - logits.begin());
}

double log_sum_exp(std::span<const float> logits, float maximum) {
  double total = 0;
  std::array<float, kBlock> values;
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, logits.size() - begin);
    for (size_t i = 0; i < count; ++i) values[i] = exp_limited(logits[begin + i] - maximum);
    std::fill(values.begin() + static_cast<ptrdiff_t>(count), values.end(), 0.0f);
    std::array<float, kLanes> sums{};
    for (size_t i = 0; i < kBlock; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += values[i + lane];
    }
    for (const float sum : sums) total += static_cast<double>(sum);
  }
  return static_cast<double>(maximum) + std::log(total);
}

}  // namespace headrace
