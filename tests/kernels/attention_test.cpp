#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/kernels/attention_problem.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

void expect_equal_to_reference(const AttentionProblem& problem, int64_t block_tokens,
                               int64_t chunk) {
  const auto expected = problem.run(*make_reference_backend(), 16, 1000);
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa);
    EXPECT_TRUE(equal_elements(AttentionProblem::kOutDType, expected,
                               problem.run(*cpu.backend, block_tokens, chunk)))
        << cpu_isa_name(isa) << " block " << block_tokens << " chunk " << chunk;
  }
}

TEST(Attention, BlockSizesAndChunksGiveTheReferenceBits) {
  const AttentionProblem problem({.heads = 6, .kv_heads = 2, .head_dim = 20}, DType::kFloat16,
                                 {70, 1, 33}, Numbers(1));
  for (const int64_t block : {1, 7, 16, 64}) {
    for (const int64_t chunk : {1, 7, 512}) expect_equal_to_reference(problem, block, chunk);
  }
}

TEST(Attention, ContextsLongerThanASplitGiveTheReferenceBits) {
  const AttentionProblem problem({.heads = 3, .kv_heads = 1, .head_dim = 64}, DType::kFloat16,
                                 {600}, Numbers(2));
  expect_equal_to_reference(problem, 64, 512);
  expect_equal_to_reference(problem, 48, 100);
  expect_equal_to_reference(problem, 64, 16);  // few queries: threads share the splits
}

TEST(Attention, MoreSplitsThanAWaveGiveTheReferenceBits) {
  const AttentionProblem problem({.heads = 2, .kv_heads = 1, .head_dim = 8}, DType::kBFloat16,
                                 {2600}, Numbers(6));
  expect_equal_to_reference(problem, 64, 20);
}

TEST(Attention, EveryDTypeAndShapeGivesTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const Heads heads :
         {Heads{1, 1, 2}, Heads{4, 4, 24}, Heads{8, 2, 128}, Heads{2, 1, 200}}) {
      const AttentionProblem problem(heads, dtype, {20}, Numbers(3));
      expect_equal_to_reference(problem, 16, 9);
    }
  }
}

TEST(Attention, StrangeValuesGiveTheReferenceBits) {
  for (const Data data : {Data::kWild, Data::kBroken}) {
    const AttentionProblem problem({.heads = 4, .kv_heads = 2, .head_dim = 16}, DType::kFloat16,
                                   {280, 40}, Numbers(4, data));
    expect_equal_to_reference(problem, 16, 64);
  }
}

RC_GTEST_PROP(AttentionProperty, BlocksChunksThreadsAndNeighboursChangeNoBit, ()) {
  const int64_t kv_heads = *rc::gen::inRange<int64_t>(1, 4);
  const Heads heads{.heads = kv_heads * *rc::gen::inRange<int64_t>(1, 4),
                    .kv_heads = kv_heads,
                    .head_dim = 2 * *rc::gen::inRange<int64_t>(1, 20)};
  const auto lengths = *rc::gen::container<std::vector<int64_t>>(*rc::gen::inRange<size_t>(1, 4),
                                                                 rc::gen::inRange<int64_t>(1, 80));
  const AttentionProblem problem(heads, DType::kBFloat16, lengths,
                                 Numbers(*rc::gen::arbitrary<uint32_t>()));
  const auto expected = problem.run(*make_reference_backend(), 64, 1000);
  for (const CpuIsa isa : isas_here()) {
    BackendUnderTest cpu(isa, *rc::gen::inRange(1, 5));
    RC_ASSERT(equal_elements(AttentionProblem::kOutDType, expected,
                             problem.run(*cpu.backend, *rc::gen::inRange<int64_t>(1, 70),
                                         *rc::gen::inRange<int64_t>(1, 100))));
  }
}

/// Rotates by the formula of Su et al. 2021 in double precision.
std::vector<double> rotated(const AttentionProblem& problem, size_t row, int64_t head) {
  const auto dim = static_cast<size_t>(problem.heads().head_dim);
  const float* x = problem.qkv(0).data() + row * static_cast<size_t>(problem.heads().width()) +
                   static_cast<size_t>(head) * dim;
  std::vector<double> out(dim);
  for (size_t i = 0; i < dim / 2; ++i) {
    const double c = problem.cos(0)[row * (dim / 2) + i];
    const double s = problem.sin(0)[row * (dim / 2) + i];
    out[i] = x[i] * c - x[i + dim / 2] * s;
    out[i + dim / 2] = x[i + dim / 2] * c + x[i] * s;
  }
  return out;
}

TEST(Attention, ReferenceIsCloseToDoublePrecision) {
  const Heads heads{.heads = 4, .kv_heads = 2, .head_dim = 10};
  constexpr size_t kLength = 300;  // two splits
  const AttentionProblem problem(heads, DType::kFloat32, {kLength}, Numbers(7));
  const auto out = problem.run(*make_reference_backend(), 16, 64);
  for (const size_t row : {size_t{0}, size_t{1}, size_t{255}, size_t{256}, kLength - 1}) {
    for (int64_t head = 0; head < heads.heads; ++head) {
      const std::vector<double> q = rotated(problem, row, head);
      std::vector<double> weighted(q.size());
      double sum = 0;
      for (size_t t = 0; t <= row; ++t) {
        const std::vector<double> k = rotated(problem, t, heads.heads + head / 2);
        const double p = std::exp(std::inner_product(q.begin(), q.end(), k.begin(), 0.0) *
                                  static_cast<double>(problem.scale()));
        const float* v = problem.qkv(0).data() + t * static_cast<size_t>(heads.width()) +
                         (heads.heads + heads.kv_heads + head / 2) * heads.head_dim;
        for (size_t d = 0; d < q.size(); ++d) weighted[d] += p * static_cast<double>(v[d]);
        sum += p;
      }
      for (size_t d = 0; d < q.size(); ++d) {
        const size_t at = (row * 4 + static_cast<size_t>(head)) * q.size() + d;
        EXPECT_NEAR(element(DType::kFloat32, out.data(), at), weighted[d] / sum, 3e-5);
      }
    }
  }
}

}  // namespace
}  // namespace headrace::testing
