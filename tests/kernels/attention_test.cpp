#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "kv/kv_cache.h"
#include "tests/kernels/kernel_cases.h"

namespace headrace::testing {
namespace {

struct Heads {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

/// Sequences of given lengths whose qkv rows are known, run through rope_and_store and attention in
/// passes of any chunk size.
class AttentionProblem {
 public:
  AttentionProblem(const Heads& heads, DType dtype, std::vector<int64_t> lengths, Numbers numbers)
      : heads_(heads), dtype_(dtype), lengths_(std::move(lengths)) {
    for (const int64_t length : lengths_) {
      const auto rows = static_cast<size_t>(length);
      qkv_.push_back(numbers.floats(rows * static_cast<size_t>(heads.width())));
      cos_.push_back(numbers.floats(rows * static_cast<size_t>(heads.head_dim / 2)));
      sin_.push_back(numbers.floats(rows * static_cast<size_t>(heads.head_dim / 2)));
    }
  }

  /// Attention outputs of all rows, sequence by sequence. Every pass takes up to `chunk` rows of
  /// each sequence.
  std::vector<std::byte> run(Backend& backend, int64_t block_tokens, int64_t chunk) const {
    const KvShape shape{.layers = 1,
                        .kv_heads = heads_.kv_heads,
                        .head_dim = heads_.head_dim,
                        .block_tokens = block_tokens,
                        .dtype = dtype_};
    int64_t blocks = 3;
    for (const int64_t length : lengths_) blocks += shape.blocks_for(length);
    Buffer memory = allocate_host(static_cast<size_t>(blocks) * shape.block_bytes(), "test");
    std::fill(memory.bytes().begin(), memory.bytes().end(), std::byte{0xff});  // NaN
    KvCache cache(shape, blocks, std::move(memory));
    std::vector<std::vector<int32_t>> tables(lengths_.size());
    std::vector<std::vector<std::byte>> outs(lengths_.size());
    const int64_t longest = *std::max_element(lengths_.begin(), lengths_.end());
    for (int64_t position = 0; position < longest; position += chunk) {
      run_pass(backend, cache, position, chunk, tables, outs);
    }
    std::vector<std::byte> all;
    for (const auto& out : outs) all.insert(all.end(), out.begin(), out.end());
    return all;
  }

  const Heads& heads() const { return heads_; }
  const std::vector<float>& qkv(size_t sequence) const { return qkv_[sequence]; }
  const std::vector<float>& cos(size_t sequence) const { return cos_[sequence]; }
  const std::vector<float>& sin(size_t sequence) const { return sin_[sequence]; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(heads_.head_dim)); }
  static constexpr DType kOutDType = DType::kFloat32;

 private:
  void run_pass(Backend& backend, KvCache& cache, int64_t position, int64_t chunk,
                std::vector<std::vector<int32_t>>& tables,
                std::vector<std::vector<std::byte>>& outs) const {
    std::vector<SequenceRows> sequences;
    std::vector<float> qkv;
    std::vector<float> cos;
    std::vector<float> sin;
    std::vector<size_t> owners;
    int64_t tokens = 0;
    for (size_t s = 0; s < lengths_.size(); ++s) {
      const int64_t rows = std::min(chunk, lengths_[s] - position);
      if (rows <= 0) continue;
      EXPECT_TRUE(cache.grow(tables[s], position + rows));
      sequences.push_back({tokens, rows, position, tables[s]});
      append(qkv, qkv_[s], position, rows, heads_.width());
      append(cos, cos_[s], position, rows, heads_.head_dim / 2);
      append(sin, sin_[s], position, rows, heads_.head_dim / 2);
      owners.push_back(s);
      tokens += rows;
    }
    backend.rope_and_store({.tokens = tokens,
                            .heads = heads_.heads,
                            .kv_heads = heads_.kv_heads,
                            .head_dim = heads_.head_dim,
                            .qkv = qkv.data(),
                            .cos = cos.data(),
                            .sin = sin.data(),
                            .sequences = sequences,
                            .kv = cache.layer(0)});
    const auto row_bytes = static_cast<size_t>(heads_.heads * heads_.head_dim) * 4;
    std::vector<std::byte> out(static_cast<size_t>(tokens) * row_bytes);
    backend.attention({.tokens = tokens,
                       .heads = heads_.heads,
                       .kv_heads = heads_.kv_heads,
                       .head_dim = heads_.head_dim,
                       .scale = scale(),
                       .qkv = qkv.data(),
                       .qkv_stride = heads_.width(),
                       .sequences = sequences,
                       .kv = cache.layer(0),
                       .out_dtype = kOutDType,
                       .out = out.data()});
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto begin = out.begin() + static_cast<std::ptrdiff_t>(
                                           static_cast<size_t>(sequences[i].row_begin) * row_bytes);
      outs[owners[i]].insert(
          outs[owners[i]].end(), begin,
          begin + static_cast<std::ptrdiff_t>(static_cast<size_t>(sequences[i].rows) * row_bytes));
    }
  }

  static void append(std::vector<float>& to, const std::vector<float>& from, int64_t row,
                     int64_t rows, int64_t width) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + rows) * width);
  }

  Heads heads_;
  DType dtype_;
  std::vector<int64_t> lengths_;
  std::vector<std::vector<float>> qkv_;
  std::vector<std::vector<float>> cos_;
  std::vector<std::vector<float>> sin_;
};

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
