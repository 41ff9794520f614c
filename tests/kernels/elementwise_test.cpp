#include <bit>
#include <limits>

#include "kernels/reference/scalar_ops.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Distance in units of the last place of `exact` rounded to float.
double ulps(float value, double exact) {
  const float rounded = static_cast<float>(exact);
  const double spacing = std::max(
      static_cast<double>(std::nextafter(std::abs(rounded), kInfinity) - std::abs(rounded)),
      0x1p-149);
  return std::abs(static_cast<double>(value) - exact) / spacing;
}

TEST(Exp, IsWithinOneAndAHalfUlpOfDouble) {
  double worst = 0;
  for (float x = -103.0f; x < 88.7f; x += 0.00137f) {
    worst = std::max(worst, ulps(reference::exp(x), std::exp(static_cast<double>(x))));
  }
  EXPECT_LT(worst, 1.5);
}

TEST(Exp, IsDefinedEverywhere) {
  EXPECT_EQ(reference::exp(0.0f), 1.0f);
  EXPECT_EQ(reference::exp(-0.0f), 1.0f);
  EXPECT_EQ(reference::exp(-kInfinity), 0.0f);
  EXPECT_EQ(reference::exp(-1e30f), 0.0f);
  EXPECT_EQ(reference::exp(-104.0f), 0.0f);
  EXPECT_EQ(reference::exp(-103.5f),
            0x1p-149f);  // e^-103.5 = 1.13e-45: rounds to the least denormal
  EXPECT_EQ(reference::exp(kInfinity), kInfinity);
  EXPECT_EQ(reference::exp(88.73f), kInfinity);
  EXPECT_LT(reference::exp(88.72f), kInfinity);
  EXPECT_TRUE(std::isnan(reference::exp(NAN)));
}

TEST(Silu, HasTheValuesOfItsFormula) {
  // x / (1 + e^-x) in 50 digits, rounded.
  EXPECT_NEAR(reference::silu(1.0f), 0.7310585786300049, 1e-7);
  EXPECT_NEAR(reference::silu(-1.0f), -0.2689414213699951, 1e-7);
  EXPECT_NEAR(reference::silu(5.0f), 4.966535745378576, 5e-7);
  EXPECT_EQ(reference::silu(0.0f), 0.0f);
  EXPECT_EQ(reference::silu(-200.0f), 0.0f);
  EXPECT_EQ(reference::silu(200.0f), 200.0f);
}

TEST(Exp, VectorsGiveTheReferenceBits) {
  // silu(a) * 1 shows every bit of exp that silu lets through; b = 1 keeps it.
  std::vector<float> a;
  for (float x = -110.0f; x < 110.0f; x += 0.013f) a.push_back(x);
  for (const float x : {kInfinity, -kInfinity, NAN, 0.0f, -0.0f, 0x1p-149f, 3e38f, -3e38f}) {
    a.push_back(x);
  }
  const std::vector<float> b(a.size(), 1.0f);
  std::vector<float> expected;
  for (const float x : a) expected.push_back(reference::silu(x));
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa);
    std::vector<float> out(a.size());
    cpu.backend->silu_multiply(a.data(), b.data(), 1, static_cast<int64_t>(a.size()),
                               DType::kFloat32, reinterpret_cast<std::byte*>(out.data()));
    EXPECT_TRUE(equal_bits(expected, out)) << cpu_isa_name(isa);
  }
}

TEST(SiluMultiply, EveryInstructionSetGivesTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t width : {1, 15, 100, 1536, 20000}) {
      Numbers numbers(static_cast<uint32_t>(width), Data::kBroken);
      const auto count = static_cast<size_t>(2 * width);
      const std::vector<float> a = numbers.floats(count);
      const std::vector<float> b = numbers.floats(count);
      std::vector<std::byte> expected(count * dtype_size(dtype));
      make_reference_backend()->silu_multiply(a.data(), b.data(), 2, width, dtype, expected.data());
      for (const CpuIsa isa : isas_here()) {
        BackendUnderTest cpu(isa);
        std::vector<std::byte> out(expected.size());
        cpu.backend->silu_multiply(a.data(), b.data(), 2, width, dtype, out.data());
        EXPECT_TRUE(equal_elements(dtype, expected, out)) << cpu_isa_name(isa) << " " << width;
      }
    }
  }
}

TEST(RmsNorm, EveryInstructionSetGivesTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t width : {1, 72, 255, 257, 576, 4096}) {
      for (const Data data : {Data::kPlain, Data::kWild, Data::kBroken}) {
        constexpr int64_t kTokens = 9;
        Numbers numbers(static_cast<uint32_t>(width), data);
        const std::vector<float> x = numbers.floats(static_cast<size_t>(kTokens * width));
        const std::vector<float> weight = numbers.floats(static_cast<size_t>(width));
        std::vector<std::byte> expected(x.size() * dtype_size(dtype));
        make_reference_backend()->rms_norm(x.data(), weight.data(), 1e-5f, kTokens, width, dtype,
                                           expected.data());
        for (const CpuIsa isa : isas_here()) {
          BackendUnderTest cpu(isa);
          std::vector<std::byte> out(expected.size());
          cpu.backend->rms_norm(x.data(), weight.data(), 1e-5f, kTokens, width, dtype, out.data());
          EXPECT_TRUE(equal_elements(dtype, expected, out)) << cpu_isa_name(isa) << " " << width;
        }
      }
    }
  }
}

TEST(RmsNorm, ReferenceFollowsTheFormula) {
  // x = 3, 4: mean square 12.5; with epsilon 3.5 the root is 4.
  const std::vector<float> x = {3.0f, 4.0f};
  const std::vector<float> weight = {2.0f, 8.0f};
  std::vector<float> out(2);
  make_reference_backend()->rms_norm(x.data(), weight.data(), 3.5f, 1, 2, DType::kFloat32,
                                     reinterpret_cast<std::byte*>(out.data()));
  EXPECT_EQ(out, (std::vector<float>{1.5f, 8.0f}));
}

TEST(Widen, EveryBitPatternOfSixteenBits) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    std::vector<uint16_t> bits(65536);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
    const auto* rows = reinterpret_cast<const std::byte*>(bits.data());
    for (const CpuIsa isa : isas_here()) {
      BackendUnderTest cpu(isa);
      std::vector<float> out(bits.size());
      cpu.backend->widen(dtype, rows, 4, 16384, out.data());
      for (size_t i = 0; i < bits.size(); ++i) {
        ASSERT_TRUE(same_bits(element(dtype, rows, i), out[i])) << cpu_isa_name(isa) << " " << i;
      }
    }
  }
}

TEST(Widen, RowsThatRepeat) {
  const std::vector<int32_t> places = {2, 0, 2, 1, 2};
  for (const DType dtype : kAllDTypes) {
    for (const int64_t width : {1, 6, 75, 4096}) {
      Numbers numbers(static_cast<uint32_t>(width));
      const std::vector<std::byte> rows = numbers.elements(dtype, static_cast<size_t>(3 * width));
      for (const CpuIsa isa : isas_here()) {
        BackendUnderTest cpu(isa);
        std::vector<float> out(places.size() * static_cast<size_t>(width));
        cpu.backend->widen_places(dtype, rows.data(), places, width, out.data());
        for (size_t i = 0; i < out.size(); ++i) {
          const size_t row = i / static_cast<size_t>(width);
          const size_t from = static_cast<size_t>(places[row]) * static_cast<size_t>(width) +
                              i % static_cast<size_t>(width);
          ASSERT_TRUE(same_bits(element(dtype, rows.data(), from), out[i]))
              << cpu_isa_name(isa) << " " << i;
        }
      }
    }
  }
}

// Rounding is reached through rms_norm: with x = 1, -1 pairs and epsilon 0 the scale is 1 and the
// output is the weight, rounded.
TEST(Narrow, RoundsToNearestEvenLikeTheScalarDefinition) {
  std::vector<float> weight;
  std::mt19937 engine(11);
  for (int i = 0; i < 200000; ++i)
    weight.push_back(std::bit_cast<float>(static_cast<uint32_t>(engine())));
  for (uint32_t half = 0; half < 65536; half += 3) {  // every third tie between neighbours
    weight.push_back(std::bit_cast<float>((half << 16) | 0x8000u));
    const float low = float16_to_float(static_cast<uint16_t>(half));
    const float high = float16_to_float(static_cast<uint16_t>(half + 1));
    weight.push_back(0.5f * low + 0.5f * high);
  }
  const auto width = static_cast<int64_t>(weight.size());
  const std::vector<float> x(weight.size(), 1.0f);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const CpuIsa isa : isas_here()) {
      BackendUnderTest cpu(isa);
      std::vector<std::byte> out(weight.size() * 2);
      cpu.backend->rms_norm(x.data(), weight.data(), 0.0f, 1, width, dtype, out.data());
      for (size_t i = 0; i < weight.size(); ++i) {
        std::byte expected[4];
        set_element(dtype, expected, 0, weight[i]);
        ASSERT_TRUE(same_bits(element(dtype, expected, 0), element(dtype, out.data(), i)))
            << cpu_isa_name(isa) << " " << weight[i];
      }
    }
  }
}

TEST(Backend, RefusesAnInstructionSetThatIsMissing) {
  ThreadPool pool(1);
  if (detect_cpu_isa() == CpuIsa::kAvx512) {
    EXPECT_NO_THROW(make_cpu_backend(pool, CpuIsa::kAvx512));
  } else {
    EXPECT_THROW(make_cpu_backend(pool, CpuIsa::kAvx512), Error);
  }
}

TEST(Backend, DescribesItself) {
  ThreadPool pool(2);
  EXPECT_EQ(make_cpu_backend(pool, CpuIsa::kPortable)->description(), "cpu portable, 2 threads");
}

TEST(Backend, ReserveReportsItsScratchAndKeepsIt) {
  BackendUnderTest cpu(detect_cpu_isa());
  const size_t bytes = cpu.backend->reserve({.max_tokens = 512, .max_k = 1536});
  EXPECT_GE(bytes, size_t{512} * 1536 * 4);
  EXPECT_LT(bytes, size_t{64} << 20);
  EXPECT_EQ(cpu.backend->reserve({.max_tokens = 8, .max_k = 576}), bytes);
}

}  // namespace
}  // namespace headrace::testing
