#include <algorithm>
#include <array>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/matmul_problem.h"

namespace headrace::testing {
namespace {

void expect_equal_to_reference(const MatmulCase& shape, Data data = Data::kPlain) {
  const MatmulProblem problem(shape, data, static_cast<uint32_t>(shape.k + shape.tokens));
  const std::vector<float> expected = problem.expected();
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa);
    EXPECT_TRUE(equal_bits(expected, problem.run(*cpu.backend)))
        << cpu_isa_name(isa) << " " << dtype_name(shape.dtype) << " rows " << shape.rows << " k "
        << shape.k << " tokens " << shape.tokens;
  }
}

TEST(Matmul, EveryInstructionSetGivesTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t k : {1, 7, 72, 75, 100, 255, 256, 257, 576, 1000, 1537, 4096}) {
      for (const int64_t tokens : {1, 2, 3, 8, 33}) {
        expect_equal_to_reference({.dtype = dtype, .rows = 13, .k = k, .tokens = tokens});
      }
    }
  }
}

// The code is lossless, so the bits are those of raw rows too.
TEST(Matmul, CodedRowsGiveTheReferenceBits) {
  for (const auto& [codec, dtype] : kCodecs) {
    for (const int64_t k : {1, 75, 255, 256, 257, 576, 1024, 1537, 3072, 4096, 11008}) {
      for (const int64_t tokens : {1, 2, 3, 8, 33}) {
        for (const Data data : {Data::kPlain, Data::kWild, Data::kBroken}) {
          const MatmulCase coded{
              .dtype = dtype, .rows = 9, .k = k, .tokens = tokens, .codec = codec};
          expect_equal_to_reference(coded, data);
          MatmulCase raw = coded;
          raw.codec = CodecId::kRaw;
          const auto seed = static_cast<uint32_t>(k);
          EXPECT_TRUE(equal_bits(MatmulProblem(raw, data, seed).expected(),
                                 MatmulProblem(coded, data, seed).expected()));
        }
      }
    }
  }
}

TEST(Matmul, EveryTokenCountGivesTheReferenceBits) {
  for (int64_t tokens = 1; tokens <= 33; ++tokens) {
    expect_equal_to_reference({.dtype = DType::kFloat16, .rows = 9, .k = 300, .tokens = tokens});
  }
  expect_equal_to_reference({.dtype = DType::kBFloat16, .rows = 21, .k = 300, .tokens = 300});
}

TEST(Matmul, LongRowsGiveTheReferenceBits) {
  for (const int64_t tokens : {1, 5, 70}) {
    expect_equal_to_reference({.dtype = DType::kFloat16, .rows = 11, .k = 11008, .tokens = tokens});
  }
}

TEST(Matmul, EveryRowCountGivesTheReferenceBits) {
  for (const int64_t rows : {1, 2, 3, 4, 5, 7, 8, 15, 64, 65, 130, 300}) {
    for (const int64_t tokens : {1, 6}) {
      expect_equal_to_reference(
          {.dtype = DType::kBFloat16, .rows = rows, .k = 80, .tokens = tokens});
    }
  }
}

TEST(Matmul, DenormalsZerosInfinitiesAndNansGiveTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t k : {75, 260, 576}) {
      for (const int64_t tokens : {1, 2, 5}) {
        const MatmulCase shape{.dtype = dtype, .rows = 40, .k = k, .tokens = tokens};
        expect_equal_to_reference(shape, Data::kWild);
        expect_equal_to_reference(shape, Data::kBroken);
      }
    }
  }
}

// Sums of products too small for a float keep the sign that their rounding gives, in rows that do
// not fill a whole number of vectors.
TEST(Matmul, UnderflowingSumsKeepTheirSign) {
  constexpr int64_t kK = 276;  // so that every partial sum is -0
  std::vector<float> w(kK, -0x1p-100f);
  std::vector<float> x(kK, 0x1p-100f);
  std::vector<float> expected(2);
  std::vector<float> actual(2);
  const WeightRun run{.data = reinterpret_cast<const std::byte*>(w.data()),
                      .matrix = 0,
                      .row_begin = 0,
                      .rows = 1,
                      .row_stride_bytes = kK * 4};
  const auto multiply = [&](Backend& backend, std::vector<float>& out, int64_t tokens) {
    const std::array outputs = {MatrixOutput{.rows = 1, .out = out.data(), .stride = 1}};
    ListFeed feed({{run}});
    backend.matmul({.dtype = DType::kFloat32,
                    .tokens = tokens,
                    .k = kK,
                    .x = reinterpret_cast<const std::byte*>(x.data()),
                    .x_stride_bytes = 0,
                    .outputs = outputs},
                   feed);
  };
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa);
    for (const int64_t tokens : {1, 2}) {
      multiply(*make_reference_backend(), expected, tokens);
      multiply(*cpu.backend, actual, tokens);
      EXPECT_TRUE(equal_bits(expected, actual)) << cpu_isa_name(isa);
    }
  }
}

TEST(Matmul, AddsBiasAndAccumulates) {
  for (const bool bias : {false, true}) {
    for (const bool accumulate : {false, true}) {
      for (const int64_t tokens : {1, 3}) {
        expect_equal_to_reference({.dtype = DType::kFloat16,
                                   .rows = 10,
                                   .k = 100,
                                   .tokens = tokens,
                                   .bias = bias,
                                   .accumulate = accumulate});
      }
    }
  }
}

TEST(Matmul, ReferenceIsTheDotProductPlusBiasPlusWhatWasThere) {
  std::vector<float> w = {1, 2, 3, 4, 5, 6};  // two rows of three
  std::vector<float> x = {1, 10, 100};
  std::vector<float> bias = {0.5f, 0.25f};
  std::vector<float> out = {1000, 2000};
  const std::array outputs = {MatrixOutput{
      .rows = 2, .out = out.data(), .stride = 2, .bias = bias.data(), .accumulate = true}};
  ListFeed feed({{WeightRun{
      .data = reinterpret_cast<const std::byte*>(w.data()), .rows = 2, .row_stride_bytes = 12}}});
  make_reference_backend()->matmul({.dtype = DType::kFloat32,
                                    .tokens = 1,
                                    .k = 3,
                                    .x = reinterpret_cast<const std::byte*>(x.data()),
                                    .x_stride_bytes = 12,
                                    .outputs = outputs},
                                   feed);
  EXPECT_EQ(out, (std::vector<float>{1321.5f, 2654.25f}));
}

TEST(Matmul, ReferenceIsCloseToDoublePrecision) {
  for (const DType dtype : kAllDTypes) {
    constexpr int64_t kRows = 6;
    constexpr int64_t kK = 1100;
    const MatmulProblem problem({.dtype = dtype, .rows = kRows, .k = kK, .tokens = 2}, Data::kPlain,
                                5);
    const std::vector<float> out = problem.expected();
    for (int64_t t = 0; t < 2; ++t) {
      for (int64_t r = 0; r < kRows; ++r) {
        double dot = 0;
        double magnitude = 0;
        for (int64_t i = 0; i < kK; ++i) {
          const double product =
              static_cast<double>(
                  element(dtype, problem.weights().run(0, r, 1).data, static_cast<size_t>(i))) *
              static_cast<double>(
                  element(dtype, problem.x().data(), static_cast<size_t>(t * kK + i)));
          dot += product;
          magnitude += std::abs(product);
        }
        EXPECT_NEAR(out[static_cast<size_t>(t * kRows + r)], dot, 1e-6 * magnitude);
      }
    }
  }
}

// The order itself: partial 0 takes elements 0 and 256, so that 2^24 + 1 is lost there, while a one
// in any other partial meets it only in the tree.
TEST(Matmul, SumsInTheCanonicalOrder) {
  std::vector<float> w(512, 1.0f);
  std::vector<float> x(512, 0.0f);
  const auto dot = [&](Backend& backend) {
    float out = 0;
    const std::array outputs = {MatrixOutput{.rows = 1, .out = &out, .stride = 1}};
    ListFeed feed({{WeightRun{.data = reinterpret_cast<const std::byte*>(w.data()),
                              .rows = 1,
                              .row_stride_bytes = 2048}}});
    backend.matmul({.dtype = DType::kFloat32,
                    .tokens = 1,
                    .k = 512,
                    .x = reinterpret_cast<const std::byte*>(x.data()),
                    .x_stride_bytes = 2048,
                    .outputs = outputs},
                   feed);
    return out;
  };
  BackendUnderTest cpu(detect_cpu_isa());
  x[0] = 0x1p24f;
  x[256] = 1.0f;  // the same partial: rounds to 2^24
  x[128] = 1.0f;  // partial 128, the first partner of 0 in the tree: rounds to 2^24 again
  EXPECT_EQ(dot(*make_reference_backend()), 0x1p24f);
  EXPECT_EQ(dot(*cpu.backend), 0x1p24f);
  x[256] = 0.0f;
  x[64] = 1.0f;
  x[192] = 1.0f;  // 64 and 192 meet each other first: their 2 survives
  x[128] = 0.0f;
  EXPECT_EQ(dot(*make_reference_backend()), 0x1p24f + 2.0f);
  EXPECT_EQ(dot(*cpu.backend), 0x1p24f + 2.0f);
}

/// Cuts [0, rows) at random places into leases of one or more runs.
std::vector<std::vector<WeightRun>> random_cuts(const StoredMatrix& matrix) {
  std::vector<std::vector<WeightRun>> leases;
  for (int64_t begin = 0; begin < matrix.row_count;) {
    const int64_t rows = *rc::gen::inRange<int64_t>(1, matrix.row_count - begin + 1);
    if (leases.empty() || *rc::gen::arbitrary<bool>()) leases.emplace_back();
    leases.back().push_back(matrix.run(0, begin, rows));
    begin += rows;
  }
  if (*rc::gen::arbitrary<bool>()) std::reverse(leases.begin(), leases.end());
  return leases;
}

RC_GTEST_PROP(MatmulProperty, CutsAndThreadsChangeNoBit, ()) {
  const MatmulCase shape{
      .dtype = *rc::gen::elementOf(std::vector{DType::kFloat32, DType::kFloat16, DType::kBFloat16}),
      .rows = *rc::gen::inRange<int64_t>(1, 90),
      .k = *rc::gen::inRange<int64_t>(1, 700),
      .tokens = *rc::gen::inRange<int64_t>(1, 12),
      .bias = *rc::gen::arbitrary<bool>(),
      .accumulate = *rc::gen::arbitrary<bool>()};
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  const MatmulProblem problem(shape, Data::kWild, seed);
  const std::vector<float> expected = problem.expected();
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa, *rc::gen::inRange(1, 5));
    RC_ASSERT(equal_bits(expected, problem.run(*cpu.backend, random_cuts(problem.weights()))));
  }
}

RC_GTEST_PROP(MatmulProperty, ATokenDoesNotDependOnItsNeighbours, ()) {
  const int64_t rows = *rc::gen::inRange<int64_t>(1, 20);
  const int64_t k = *rc::gen::inRange<int64_t>(1, 600);
  const int64_t tokens = *rc::gen::inRange<int64_t>(2, 20);
  const int64_t alone = *rc::gen::inRange<int64_t>(0, tokens);
  const DType dtype = DType::kFloat16;
  Numbers numbers(*rc::gen::arbitrary<uint32_t>());
  const StoredMatrix weights(dtype, rows, k, numbers);
  const auto x = numbers.elements(dtype, static_cast<size_t>(tokens * k));
  BackendUnderTest cpu(detect_cpu_isa());
  const auto multiply = [&](int64_t first, int64_t count) {
    std::vector<float> out(static_cast<size_t>(count * rows));
    const std::array outputs = {MatrixOutput{.rows = rows, .out = out.data(), .stride = rows}};
    ListFeed feed(weights.whole());
    const size_t stride = static_cast<size_t>(k) * dtype_size(dtype);
    cpu.backend->matmul({.dtype = dtype,
                         .tokens = count,
                         .k = k,
                         .x = x.data() + static_cast<size_t>(first) * stride,
                         .x_stride_bytes = stride,
                         .outputs = outputs},
                        feed);
    return out;
  };
  const std::vector<float> all = multiply(0, tokens);
  const std::vector<float> one = multiply(alone, 1);
  RC_ASSERT(equal_bits(
      one, std::span(all).subspan(static_cast<size_t>(alone * rows), static_cast<size_t>(rows))));
}

// Groups of matrices: each run goes to its own output, whatever order they arrive in.
TEST(Matmul, GroupsWriteToTheirOwnOutputs) {
  Numbers numbers(3);
  const DType dtype = DType::kBFloat16;
  constexpr int64_t kK = 96;
  constexpr int64_t kTokens = 3;
  const StoredMatrix first(dtype, 10, kK, numbers);
  const StoredMatrix second(dtype, 17, kK, numbers);
  const auto x = numbers.elements(dtype, kTokens * kK);
  const auto multiply = [&](Backend& backend) {
    std::vector<float> out(kTokens * 40, -1.0f);  // two matrices side by side, gaps between them
    const std::array outputs = {MatrixOutput{.rows = 10, .out = out.data(), .stride = 40},
                                MatrixOutput{.rows = 17, .out = out.data() + 12, .stride = 40}};
    ListFeed feed(
        {{second.run(1, 4, 13), first.run(0, 0, 3)}, {first.run(0, 3, 7)}, {second.run(1, 0, 4)}});
    backend.matmul({.dtype = dtype,
                    .tokens = kTokens,
                    .k = kK,
                    .x = x.data(),
                    .x_stride_bytes = kK * 2,
                    .outputs = outputs},
                   feed);
    return out;
  };
  const std::vector<float> expected = multiply(*make_reference_backend());
  EXPECT_EQ(expected[10], -1.0f);
  EXPECT_EQ(expected[29], -1.0f);
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa);
    EXPECT_TRUE(equal_bits(expected, multiply(*cpu.backend))) << cpu_isa_name(isa);
  }
}

}  // namespace
}  // namespace headrace::testing
