#include "model/rope.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/sincos.h"

namespace headrace {
namespace {

constexpr int64_t kPositionsAtOnce = 256;  // by which a table grows, so that few passes do it
constexpr int64_t kPositionsOfThread = 16;

/// Frequencies of long wavelengths are divided by `factor`, short ones kept, those between blended
/// (Llama 3.1 reference; transformers' _compute_llama3_parameters).
float llama3_frequency(float frequency, const RopeScaling& scaling) {
  const auto factor = static_cast<float>(scaling.factor);
  const auto low = static_cast<float>(scaling.low_freq_factor);
  const auto high = static_cast<float>(scaling.high_freq_factor);
  const auto context = static_cast<float>(scaling.original_max_position_embeddings);
  const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
  if (wavelength > context / low) return frequency / factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

float scaled_frequency(float frequency, const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone:
      return frequency;
    case RopeScaling::Kind::kLinear:
      return frequency / static_cast<float>(scaling.factor);
    case RopeScaling::Kind::kLlama3:
      return llama3_frequency(frequency, scaling);
  }
  HR_CHECK(false);
}

}  // namespace

Rope::Rope(const ModelConfig& config) {
  const int64_t pairs = config.head_size / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_size);
    const auto power =
        static_cast<float>(std::pow(config.rotary_base, static_cast<double>(exponent)));
    inverse_frequencies_.push_back(scaled_frequency(1.0f / power, config.rotary_scaling));
  }
}

void Rope::fill(int64_t position, std::span<float> cos, std::span<float> sin) const {
  HR_CHECK(cos.size() == inverse_frequencies_.size() && sin.size() == cos.size());
  for (size_t i = 0; i < cos.size(); ++i) {
    const SinCos value = sincos(static_cast<float>(position) * inverse_frequencies_[i]);
    cos[i] = value.cos;
    sin[i] = value.sin;
  }
}

void RopeTable::cover(int64_t end, ThreadPool& pool) {
  if (end <= covered_) return;
  const int64_t begin = covered_;
  const int64_t grown = (end + kPositionsAtOnce - 1) / kPositionsAtOnce * kPositionsAtOnce;
  cos_.resize(static_cast<size_t>(grown) * pairs());
  sin_.resize(cos_.size());
  pool.parallel_for(grown - begin, kPositionsOfThread, [&](int64_t first, int64_t last) {
    for (int64_t position = begin + first; position < begin + last; ++position) {
      const size_t at = static_cast<size_t>(position) * pairs();
      rope_.fill(position, std::span(cos_).subspan(at, pairs()),
                 std::span(sin_).subspan(at, pairs()));
    }
  });
  covered_ = grown;
}

}  // namespace headrace
