#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/thread_pool.h"
#include "tests/support/golden.h"

namespace headrace {
namespace {

using nlohmann::json;

float from_hex(const json& value) { return std::stof(value.get<std::string>()); }

ModelConfig config_of(const json& entry) {
  const json& rope = entry["rope"];
  ModelConfig config;
  config.head_size = entry["head_dim"];
  config.rotary_base = rope["rope_theta"];
  const std::string type = rope["rope_type"];
  if (type == "default") return config;
  config.rotary_scaling.kind =
      type == "linear" ? RopeScaling::Kind::kLinear : RopeScaling::Kind::kLlama3;
  config.rotary_scaling.factor = rope["factor"];
  if (type == "linear") return config;
  config.rotary_scaling.low_freq_factor = rope["low_freq_factor"];
  config.rotary_scaling.high_freq_factor = rope["high_freq_factor"];
  config.rotary_scaling.original_max_position_embeddings = rope["original_max_position_embeddings"];
  return config;
}

class RopeTest : public ::testing::TestWithParam<std::string> {
 protected:
  static json entry() {
    return json::parse(testing::read_file(testing::golden_path("model/rope.json")))[GetParam()];
  }
};

TEST_P(RopeTest, FrequenciesAreThoseOfTransformers) {
  const json golden = entry();
  const Rope rope(config_of(golden));
  ASSERT_EQ(rope.inverse_frequencies().size(), golden["inverse_frequencies"].size());
  for (size_t i = 0; i < golden["inverse_frequencies"].size(); ++i) {
    const float expected = from_hex(golden["inverse_frequencies"][i]);
    // Two roundings may differ from torch's float32 pow.
    EXPECT_NEAR(rope.inverse_frequencies()[i], expected, std::ldexp(expected, -22)) << i;
  }
}

TEST_P(RopeTest, CosinesAndSinesAreThoseOfTransformers) {
  const json golden = entry();
  const Rope rope(config_of(golden));
  const auto pairs = static_cast<size_t>(golden["head_dim"].get<int>() / 2);
  std::vector<float> cos(pairs);
  std::vector<float> sin(pairs);
  for (const json& at : golden["positions"]) {
    const int64_t position = at["position"];
    rope.fill(position, cos, sin);
    for (size_t i = 0; i < pairs; ++i) {
      // A frequency that is off by an ulp turns the angle by position x frequency x 2^-23.
      const double slack =
          static_cast<double>(position) * rope.inverse_frequencies()[i] * 0x1p-22 + 1e-6;
      EXPECT_NEAR(cos[i], from_hex(at["cos"][i]), slack) << position << " " << i;
      EXPECT_NEAR(sin[i], from_hex(at["sin"][i]), slack) << position << " " << i;
    }
  }
}

TEST_P(RopeTest, ATableHasTheSameValuesHoweverItGrows) {
  const ModelConfig config = config_of(entry());
  const Rope rope(config);
  const auto pairs = rope.inverse_frequencies().size();
  std::vector<float> cos(pairs);
  std::vector<float> sin(pairs);
  ThreadPool pool(3);
  RopeTable table(config);
  for (const int64_t end : {1, 2, 300, 257, 2000}) {
    table.cover(end, pool);
    for (int64_t position = 0; position < end; ++position) {
      rope.fill(position, cos, sin);
      ASSERT_TRUE(std::ranges::equal(table.cos(position), cos)) << position;
      ASSERT_TRUE(std::ranges::equal(table.sin(position), sin)) << position;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, RopeTest, ::testing::Values("plain", "odd", "linear", "llama3"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace headrace
