#include "tests/support/golden.h"

#include <cstdlib>
#include <map>
#include <sstream>

#include "kernels/reference/scalar_ops.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

/// tests/golden/kernels/kernels.txt: values that make_kernels_golden.py computed in double
/// precision.
class Golden : public ::testing::Test {
 protected:
  void SetUp() override {
    std::istringstream lines(read_file(golden_path("kernels/kernels.txt")));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string name;
      words >> name;
      for (std::string word; words >> word;) {
        values_[name].push_back(std::strtod(word.c_str(), nullptr));
      }
    }
  }

  const std::vector<double>& values(const std::string& name) { return values_.at(name); }
  std::vector<float> floats(const std::string& name) {
    std::vector<float> result;
    for (const double value : values(name)) result.push_back(static_cast<float>(value));
    return result;
  }
  void expect_near(const std::string& name, std::span<const float> actual, double tolerance) {
    const std::vector<double>& expected = values(name);
    ASSERT_EQ(expected.size(), actual.size());
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(actual[i], expected[i], tolerance) << i;
  }

 private:
  std::map<std::string, std::vector<double>> values_;
};

TEST_F(Golden, ExpIsWithinOneAndAHalfUlp) {
  const std::vector<float> x = floats("x");
  ASSERT_GE(x.size(), 50u);
  for (size_t i = 0; i < x.size(); ++i) {
    const float expected = static_cast<float>(values("exp")[i]);
    const double ulp = static_cast<double>(std::nextafter(expected, INFINITY) - expected);
    EXPECT_NEAR(reference::exp(x[i]), values("exp")[i], 1.5 * ulp) << x[i];
  }
}

TEST_F(Golden, SiluIsClose) {
  const std::vector<float> x = floats("x");
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = values("silu")[i];
    // Below -88, 1 + e^-x overflows and silu is -0: the right answer is smaller than 1e-36.
    EXPECT_NEAR(reference::silu(x[i]), expected, 4e-7 * std::abs(expected) + 1e-36) << x[i];
  }
}

TEST_F(Golden, RmsNormIsClose) {
  const std::vector<float> x = floats("norm_x");
  const std::vector<float> weight = floats("norm_weight");
  std::vector<float> out(x.size());
  make_reference_backend()->rms_norm(x.data(), weight.data(), 1e-5f, 2, 25, DType::kFloat32,
                                     reinterpret_cast<std::byte*>(out.data()));
  expect_near("norm_out", out, 1e-6);
}

TEST_F(Golden, RopeAndAttentionAreThoseOfTransformers) {
  constexpr int64_t kTokens = 11;
  constexpr int64_t kHeads = 4;
  constexpr int64_t kKvHeads = 2;
  constexpr int64_t kHeadDim = 6;
  std::vector<float> qkv = floats("qkv");
  const std::vector<float> cos = floats("cos");
  const std::vector<float> sin = floats("sin");
  const KvShape shape{.layers = 1,
                      .kv_heads = kKvHeads,
                      .head_dim = kHeadDim,
                      .block_tokens = 4,
                      .dtype = DType::kFloat32};
  const std::vector<int32_t> blocks = {2, 0, 1};
  std::vector<float> cache(static_cast<size_t>(6 * shape.block_elements()));
  const KvLayer kv{.k = reinterpret_cast<std::byte*>(cache.data()),
                   .v = reinterpret_cast<std::byte*>(cache.data() + shape.block_elements()),
                   .shape = shape};
  const SequenceRows sequence{.row_begin = 0, .rows = kTokens, .position = 0, .blocks = blocks};
  const auto backend = make_reference_backend();
  backend->rope_and_store({.tokens = kTokens,
                           .heads = kHeads,
                           .kv_heads = kKvHeads,
                           .head_dim = kHeadDim,
                           .qkv = qkv.data(),
                           .cos = cos.data(),
                           .sin = sin.data(),
                           .sequences = std::span(&sequence, 1),
                           .kv = kv});
  std::vector<float> out(values("attended").size());
  backend->attention({.tokens = kTokens,
                      .heads = kHeads,
                      .kv_heads = kKvHeads,
                      .head_dim = kHeadDim,
                      .scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim)),
                      .qkv = qkv.data(),
                      .qkv_stride = (kHeads + 2 * kKvHeads) * kHeadDim,
                      .sequences = std::span(&sequence, 1),
                      .kv = kv,
                      .out_dtype = DType::kFloat32,
                      .out = reinterpret_cast<std::byte*>(out.data())});
  expect_near("attended", out, 2e-6);
}

}  // namespace
}  // namespace headrace::testing
