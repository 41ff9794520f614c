#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/gpu/mirrored_backend.h"
#include "tests/kernels/attention_problem.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/matmul_problem.h"

namespace headrace::testing {
namespace {

/// One device for all tests of this file: starting CUDA takes a while.
MirroredBackend& cuda() {
  static MirroredBackend backend(make_cuda_backend(0));
  return backend;
}

void expect_reference_bits(const MatmulCase& shape, Data data = Data::kPlain) {
  const MatmulProblem problem(shape, data, static_cast<uint32_t>(shape.k + shape.tokens));
  cuda().reserve({.max_tokens = shape.tokens, .max_k = shape.k, .dtype = shape.dtype});
  EXPECT_TRUE(equal_bits(problem.expected(), problem.run(cuda())))
      << dtype_name(shape.dtype) << ' ' << codec_name(shape.codec) << " rows " << shape.rows
      << " k " << shape.k << " tokens " << shape.tokens;
}

TEST(CudaMatmul, CanonicalProductsHaveTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t k : {1, 7, 72, 75, 100, 255, 256, 257, 576, 1000, 1537, 4096}) {
      for (const int64_t tokens : {1, 2, 3, 4, 5, 8, 9, 33}) {
        expect_reference_bits({.dtype = dtype, .rows = 13, .k = k, .tokens = tokens});
      }
    }
  }
}

TEST(CudaMatmul, LongRowsHaveTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t tokens : {1, 4, 8}) {
      expect_reference_bits({.dtype = dtype, .rows = 37, .k = 11008, .tokens = tokens});
      expect_reference_bits({.dtype = dtype, .rows = 9, .k = 28672, .tokens = tokens});
    }
  }
}

TEST(CudaMatmul, ManyRowsBiasAndAccumulationHaveTheReferenceBits) {
  for (const int64_t rows : {1, 3, 64, 65, 5000}) {
    for (const int64_t tokens : {1, 6}) {
      expect_reference_bits(
          {.dtype = DType::kBFloat16, .rows = rows, .k = 80, .tokens = tokens, .bias = true});
      expect_reference_bits(
          {.dtype = DType::kFloat16, .rows = rows, .k = 264, .tokens = tokens, .accumulate = true});
    }
  }
}

TEST(CudaMatmul, StrangeValuesHaveTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t k : {75, 260, 576}) {
      for (const int64_t tokens : {1, 5}) {
        const MatmulCase shape{.dtype = dtype, .rows = 40, .k = k, .tokens = tokens};
        expect_reference_bits(shape, Data::kWild);
        expect_reference_bits(shape, Data::kBroken);
      }
    }
  }
}

// How a group's rows are cut into runs and leases changes no bit, in either class.
TEST(CudaMatmul, CutsChangeNoBit) {
  for (const int64_t canonical_rows : {int64_t{0}, int64_t{8}}) {
    for (const int64_t tokens : {8, 40, 600}) {
      cuda().reserve({.max_tokens = tokens,
                      .max_k = 1024,
                      .dtype = DType::kFloat16,
                      .canonical_rows = canonical_rows});
      const MatmulProblem problem(
          {.dtype = DType::kFloat16, .rows = 960, .k = 1024, .tokens = tokens}, Data::kPlain, 5);
      const StoredMatrix& weights = problem.weights();
      const std::vector<float> whole = problem.run(cuda());
      EXPECT_TRUE(
          equal_bits(whole, problem.run(cuda(), {{weights.run(0, 0, 64), weights.run(0, 64, 576)},
                                                 {weights.run(0, 640, 320)}})))
          << tokens << " rows, canonical " << canonical_rows;
    }
  }
}

// A token row's result does not depend on the other rows, from 9 rows on as up to 8.
TEST(CudaMatmul, MatrixClassIsBatchInvariantAndClose) {
  constexpr int64_t kRows = 512;
  constexpr int64_t kK = 4096;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    cuda().reserve({.max_tokens = 8192, .max_k = kK, .dtype = dtype, .canonical_rows = 8});
    std::vector<float> first;
    for (const int64_t tokens : {9, 16, 17, 33, 64, 100, 512, 2048}) {
      // The same seed begins with the same weights, but x differs in length: compare with products
      // of the whole batch by the canonical order instead.
      const MatmulProblem problem({.dtype = dtype, .rows = kRows, .k = kK, .tokens = tokens},
                                  Data::kPlain, 11);
      const std::vector<float> out = problem.run(cuda());
      if (first.empty()) {
        first.assign(out.begin(), out.begin() + kRows);
        const std::vector<float> exact = problem.expected();
        for (size_t i = 0; i < exact.size(); ++i) {
          ASSERT_NEAR(out[i], exact[i], 2e-3 * std::sqrt(static_cast<double>(kK)));
        }
      }
      EXPECT_TRUE(equal_bits(first, std::span(out).first(kRows))) << tokens;
    }
  }
}

// Few rows of the matrix class have a kernel of their own, with the bits that cuBLASLt gives to
// many.
TEST(CudaMatmul, FewRowsOfTheMatrixClassHaveTheBitsOfMany) {
  constexpr int64_t kMany = 300;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const auto& [rows, k] : std::array<std::pair<int64_t, int64_t>, 5>{
             {{72, 200}, {4104, 72}, {8, 8}, {12296, 136}, {8192, 1000}}}) {
      for (const bool adds : {false, true}) {
        cuda().reserve({.max_tokens = kMany, .max_k = k, .dtype = dtype, .canonical_rows = 8});
        const MatmulProblem problem({.dtype = dtype,
                                     .rows = rows,
                                     .k = k,
                                     .tokens = kMany,
                                     .bias = adds,
                                     .accumulate = adds},
                                    Data::kPlain, 13);
        const std::vector<float> many = problem.run(cuda());
        for (const int64_t tokens : {9, 31, 32, 33, 64}) {
          const auto few = problem.run_first(cuda(), tokens, problem.weights().whole());
          const auto count = static_cast<size_t>(tokens * rows);
          EXPECT_TRUE(equal_bits(std::span(many).first(count), std::span(few).first(count)))
              << dtype_name(dtype) << ' ' << rows << " x " << k << ", " << tokens << " rows";
        }
      }
    }
  }
}

/// silu of one matrix's products times another's, of two matrices that are cut differently.
struct GatedProblem {
  GatedProblem(DType dtype_in, int64_t rows_in, int64_t k_in, int64_t tokens_in)
      : dtype(dtype_in),
        rows(rows_in),
        k(k_in),
        tokens(tokens_in),
        numbers(static_cast<uint32_t>(rows + k)),
        first(dtype, rows, k, numbers),
        second(dtype, rows, k, numbers),
        x(numbers.elements(dtype, static_cast<size_t>(tokens * k))) {
    // Exact products by the first matrix are zero: what is left is the order of sums, which the
    // activations' rounding then does not hide.
    const int64_t half = k / 2;
    for (int64_t row = 0; row < rows; ++row) {
      repeat(first.bytes.data() + static_cast<size_t>(row) * first.stride, half, 0x8000);
    }
    for (int64_t token = 0; token < tokens; ++token) {
      repeat(x.data() + static_cast<size_t>(token * k) * dtype_size(dtype), half, 0);
    }
    // A token row of zeros: products of which silu is not plain.
    std::fill_n(x.begin(), static_cast<size_t>(k) * dtype_size(dtype), std::byte{0});
  }

  /// Makes numbers [half, 2 half) those before them, with some bits flipped.
  static void repeat(std::byte* numbers, int64_t half, uint16_t flip) {
    for (int64_t i = 0; i < half; ++i) {
      uint16_t value = 0;
      std::memcpy(&value, numbers + 2 * i, sizeof(value));
      value ^= flip;
      std::memcpy(numbers + 2 * (half + i), &value, sizeof(value));
    }
  }

  /// The activations, and what is in the scratch afterwards.
  std::pair<std::vector<std::byte>, std::vector<float>> run(Backend& backend, bool held) const {
    const auto count = static_cast<size_t>(tokens * rows);
    std::vector<float> scratch(2 * count, 1.0f);
    std::vector<std::byte> out(count * dtype_size(dtype));
    const std::array outputs = {
        MatrixOutput{.rows = rows, .out = scratch.data(), .stride = rows},
        MatrixOutput{.rows = rows, .out = scratch.data() + count, .stride = rows}};
    ListFeed feed({{second.run(1, 16, rows - 16), first.run(0, 0, 48)},
                   {first.run(0, 48, rows - 48)},
                   {second.run(1, 0, 16)}});
    feed.can_be_held = held;
    backend.gated_matmul({.dtype = dtype,
                          .tokens = tokens,
                          .k = k,
                          .x = x.data(),
                          .x_stride_bytes = static_cast<size_t>(k) * dtype_size(dtype),
                          .outputs = outputs},
                         feed, out.data());
    return {out, scratch};
  }

  DType dtype;
  int64_t rows;
  int64_t k;
  int64_t tokens;
  Numbers numbers;
  StoredMatrix first;
  StoredMatrix second;
  std::vector<std::byte> x;
};

// A kernel multiplies by both matrices of a group and keeps the products to itself, where all of
// the group can be held at once.
TEST(CudaMatmul, GatedProductsHaveTheBitsOfProductsApart) {
  constexpr int64_t kTokens = 4100;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const auto& [rows, k] : std::array<std::pair<int64_t, int64_t>, 4>{
             {{72, 200}, {1000, 1032}, {328, 64}, {64, 8}}}) {
      cuda().reserve({.max_tokens = kTokens, .max_k = k, .dtype = dtype, .canonical_rows = 8});
      const GatedProblem problem(dtype, rows, k, kTokens);
      const auto [apart, products] = problem.run(cuda(), false);
      const auto [together, scratch] = problem.run(cuda(), true);
      EXPECT_TRUE(equal_elements(dtype, apart, together))
          << dtype_name(dtype) << ' ' << rows << " x " << k;
      const bool touched = std::ranges::any_of(scratch, [](float value) { return value != 1.0f; });
      EXPECT_EQ(touched, cuda().compute_capability() != "sm90");
    }
  }
}

// Passes of nearly as many token rows share what was found for one of them, and the first products
// of a shape try one algorithm after the other.
TEST(CudaMatmul, EveryAlgorithmThatIsTriedHasTheSameBits) {
  constexpr int64_t kMany = 1200;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const auto& [rows, k] :
         std::array<std::pair<int64_t, int64_t>, 3>{{{72, 200}, {4104, 1032}, {1024, 4096}}}) {
      cuda().reserve({.max_tokens = kMany, .max_k = k, .dtype = dtype, .canonical_rows = 8});
      const MatmulProblem problem({.dtype = dtype, .rows = rows, .k = k, .tokens = kMany},
                                  Data::kPlain, 17);
      const std::vector<float> many = problem.run(cuda());
      for (int turn = 0; turn < 20; ++turn) {
        for (const int64_t tokens : {65, 99, 127, 128, 300, 1025, 1100, 1151}) {
          const auto some = problem.run_first(cuda(), tokens, problem.weights().whole());
          const auto count = static_cast<size_t>(tokens * rows);
          ASSERT_TRUE(equal_bits(std::span(many).first(count), std::span(some).first(count)))
              << dtype_name(dtype) << ' ' << rows << " x " << k << ", " << tokens << " rows, turn "
              << turn;
        }
      }
    }
  }
}

TEST(CudaCodedMatmul, CanonicalProductsHaveTheReferenceBits) {
  for (const auto& [codec, dtype] : kCodecs) {
    for (const int64_t k :
         {1, 75, 255, 256, 257, 264, 576, 1000, 1024, 1536, 3072, 4096, 11008, 28672}) {
      for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33}) {
        for (const Data data : {Data::kPlain, Data::kWild, Data::kBroken}) {
          const MatmulCase shape{
              .dtype = dtype, .rows = 5, .k = k, .tokens = tokens, .codec = codec};
          expect_reference_bits(shape, data);
        }
      }
    }
  }
}

// More row groups than warps: queues and headers come round, whatever groups a row has.
TEST(CudaCodedMatmul, ManyRowsBiasAndAccumulationHaveTheReferenceBits) {
  for (const auto& [codec, dtype] : kCodecs) {
    for (const auto& [rows, k] : std::array<std::pair<int64_t, int64_t>, 8>{{{1, 1024},
                                                                             {3, 80},
                                                                             {65, 264},
                                                                             {5000, 80},
                                                                             {5000, 1032},
                                                                             {13001, 264},
                                                                             {9001, 2056},
                                                                             {5000, 4096}}}) {
      for (const int64_t tokens : {1, 2, 4, 6}) {
        const MatmulCase shape{
            .dtype = dtype, .rows = rows, .k = k, .tokens = tokens, .codec = codec};
        MatmulCase biased = shape;
        biased.bias = true;
        MatmulCase added = shape;
        added.accumulate = true;
        expect_reference_bits(biased, rows < 100 ? Data::kWild : Data::kPlain);
        if (rows <= 5000 && k < 2000) expect_reference_bits(added);
      }
    }
  }
}

// In either class, and with raw runs among the coded ones.
TEST(CudaCodedMatmul, CutsAndCodecsChangeNoBit) {
  for (const int64_t canonical_rows : {int64_t{0}, int64_t{8}}) {
    for (const auto& [codec, dtype] : kCodecs) {
      for (const int64_t tokens : {1, 8, 9, 40, 600}) {
        cuda().reserve({.max_tokens = tokens,
                        .max_k = 1032,
                        .dtype = dtype,
                        .canonical_rows = canonical_rows,
                        .coded = true});
        const MatmulCase shape{.dtype = dtype, .rows = 960, .k = 1032, .tokens = tokens};
        MatmulCase coded_shape = shape;
        coded_shape.codec = codec;
        const MatmulProblem raw(shape, Data::kPlain, 5);
        const MatmulProblem coded(coded_shape, Data::kPlain, 5);
        const StoredMatrix& a = raw.weights();
        const StoredMatrix& b = coded.weights();
        const std::vector<float> expected = raw.run(cuda());
        EXPECT_TRUE(equal_bits(expected, coded.run(cuda()))) << tokens;
        EXPECT_TRUE(equal_bits(
            expected,
            coded.run(cuda(), {{b.run(0, 0, 64), a.run(0, 64, 64), b.run(0, 128, 512)},
                               {b.run(0, 640, 64), b.run(0, 704, 192), a.run(0, 896, 64)}})))
            << tokens << " rows, canonical " << canonical_rows;
      }
    }
  }
}

// More rows than are decoded at a time.
TEST(CudaCodedMatmul, LongRunsOfTheMatrixClassHaveTheBitsOfRawRows) {
  const MatmulCase shape{.dtype = DType::kBFloat16, .rows = 1600, .k = 28672, .tokens = 9};
  MatmulCase coded = shape;
  coded.codec = CodecId::kE3;
  for (const int64_t canonical_rows : {8, 9}) {
    cuda().reserve({.max_tokens = shape.tokens,
                    .max_k = shape.k,
                    .dtype = shape.dtype,
                    .canonical_rows = canonical_rows,
                    .coded = true});
    EXPECT_TRUE(equal_bits(MatmulProblem(shape, Data::kPlain, 3).run(cuda()),
                           MatmulProblem(coded, Data::kPlain, 3).run(cuda())));
  }
}

// A norm that waits for the product that it goes along with.
TEST(CudaCodedMatmul, NormsGoAlong) {
  const auto device = make_cuda_backend(0);
  const auto reference = make_reference_backend();
  std::vector<std::pair<CodecId, DType>> codecs(std::begin(kCodecs), std::end(kCodecs));
  codecs.emplace_back(CodecId::kRaw, DType::kBFloat16);
  for (const auto& [codec, dtype] : codecs) {
    for (const int64_t k : {264, 1024, 2056, 4096, 11008}) {
      for (const int64_t tokens : {1, 2, 3}) {
        constexpr int64_t kRows = 70;
        Numbers numbers(static_cast<uint32_t>(k));
        const StoredMatrix weights(dtype, kRows, k, numbers, codec);
        const std::vector<float> x = numbers.floats(static_cast<size_t>(tokens * k));
        const std::vector<float> scale = numbers.floats(static_cast<size_t>(k));
        const auto run = [&](Backend& backend) {
          const auto put = [&](std::span<const std::byte> bytes) {
            Buffer buffer = backend.allocate(bytes.size(), "test");
            backend.upload(buffer.data(), bytes);
            return buffer;
          };
          const Buffer rows = put(weights.bytes);
          const Buffer in = put(std::as_bytes(std::span(x)));
          const Buffer factors = put(std::as_bytes(std::span(scale)));
          const size_t x_stride = static_cast<size_t>(k) * dtype_size(dtype);
          const Buffer normed = backend.allocate(static_cast<size_t>(tokens) * x_stride, "test");
          std::vector<float> result(static_cast<size_t>(tokens * kRows));
          const Buffer out = backend.allocate(result.size() * sizeof(float), "test");
          const std::array outputs = {
              MatrixOutput{.rows = kRows, .out = out.floats(), .stride = kRows}};
          WeightRun whole = weights.run(0, 0, kRows);
          whole.data = rows.data();
          ListFeed feed({{whole}});
          backend.rms_norm(in.floats(), factors.floats(), 1e-5f, tokens, k, dtype, normed.data());
          backend.matmul({.dtype = dtype,
                          .tokens = tokens,
                          .k = k,
                          .x = normed.data(),
                          .x_stride_bytes = x_stride,
                          .outputs = outputs},
                         feed);
          backend.download(std::as_writable_bytes(std::span(result)), out.data());
          std::vector<std::byte> x_bytes(static_cast<size_t>(tokens) * x_stride);
          backend.download(x_bytes, normed.data());
          return std::pair(result, x_bytes);
        };
        const auto expected = run(*reference);
        const auto actual = run(*device);
        EXPECT_TRUE(equal_bits(expected.first, actual.first))
            << codec_name(codec) << " k " << k << " tokens " << tokens;
        EXPECT_TRUE(equal_elements(dtype, expected.second, actual.second))
            << codec_name(codec) << " k " << k << " tokens " << tokens;
      }
    }
  }
}

// What no encoder writes: no byte beyond the rows is read (compute-sanitizer looks), and the device
// goes on.
TEST(CudaCodedMatmul, ForgedRowsDoNoHarm) {
  for (const auto& [codec, dtype] : kCodecs) {
    for (const int64_t k : {75, 264, 4096}) {
      for (const uint64_t escapes : {0, 40}) {
        for (const int64_t tokens : {1, 4, 8, 40}) {
          cuda().reserve({.max_tokens = tokens, .dtype = dtype, .canonical_rows = 8});
          constexpr int64_t kRows = 24;
          const size_t stride = RowLayout::stride_for(codec, dtype, k, escapes);
          std::mt19937 engine(static_cast<uint32_t>(k));
          std::vector<std::byte> bytes(kRows * stride + 64);
          for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine());
          const std::vector<std::byte> x(static_cast<size_t>(tokens * k) * 2);
          std::vector<float> out(static_cast<size_t>(tokens * kRows));
          const std::array outputs = {
              MatrixOutput{.rows = kRows, .out = out.data(), .stride = kRows}};
          ListFeed feed({{WeightRun{
              .data = bytes.data(), .rows = kRows, .row_stride_bytes = stride, .codec = codec}}});
          cuda().matmul({.dtype = dtype,
                         .tokens = tokens,
                         .k = k,
                         .x = x.data(),
                         .x_stride_bytes = static_cast<size_t>(k) * 2,
                         .outputs = outputs},
                        feed);
          cuda().synchronize();
        }
      }
    }
    expect_reference_bits({.dtype = dtype, .rows = 13, .k = 264, .tokens = 1, .codec = codec});
  }
}

void expect_reference_bits(const AttentionProblem& problem, int64_t block_tokens, int64_t chunk) {
  cuda().reserve({.max_tokens = 1, .dtype = problem.out_dtype()});  // every pass canonical
  const auto expected = problem.run(*make_reference_backend(), 16, 1000);
  EXPECT_TRUE(
      equal_elements(problem.out_dtype(), expected, problem.run(cuda(), block_tokens, chunk)))
      << "block " << block_tokens << " chunk " << chunk;
}

TEST(CudaAttention, BlockSizesAndChunksGiveTheReferenceBits) {
  const AttentionProblem problem({.heads = 6, .kv_heads = 2, .head_dim = 20}, DType::kFloat16,
                                 {70, 1, 33}, Numbers(1));
  for (const int64_t block : {1, 7, 16, 64}) {
    for (const int64_t chunk : {1, 7, 512}) expect_reference_bits(problem, block, chunk);
  }
}

TEST(CudaAttention, LongContextsGiveTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t head_dim : {64, 128}) {
      const AttentionProblem problem({.heads = 3, .kv_heads = 1, .head_dim = head_dim}, dtype,
                                     {600, 257, 256}, Numbers(2));
      for (const int64_t chunk : {1, 100, 512}) expect_reference_bits(problem, 64, chunk);
      expect_reference_bits(problem, 48, 100);
    }
  }
}

TEST(CudaAttention, ManySplitsGiveTheReferenceBits) {
  const AttentionProblem problem({.heads = 2, .kv_heads = 1, .head_dim = 8}, DType::kBFloat16,
                                 {2600}, Numbers(6));
  expect_reference_bits(problem, 64, 1);
  expect_reference_bits(problem, 64, 300);
}

// Rotation takes several heads a block, one after the other, where there are many rows.
TEST(CudaAttention, ManySequencesGiveTheReferenceBits) {
  const std::array<std::pair<Heads, size_t>, 3> cases = {
      {{{4, 2, 64}, 100}, {{6, 3, 20}, 70}, {{10, 5, 200}, 20}}};
  for (const DType dtype : kAllDTypes) {
    for (const auto& [heads, sequences] : cases) {
      const AttentionProblem problem(heads, dtype, std::vector<int64_t>(sequences, 65), Numbers(7));
      expect_reference_bits(problem, 16, 65);
    }
    const AttentionProblem problem(cases[1].first, dtype, std::vector<int64_t>(140, 65),
                                   Numbers(8));
    expect_reference_bits(problem, 7, 40);
  }
}

TEST(CudaAttention, EveryDTypeAndShapeGivesTheReferenceBits) {
  for (const DType dtype : kAllDTypes) {
    for (const Heads heads :
         {Heads{1, 1, 2}, Heads{4, 4, 24}, Heads{8, 2, 128}, Heads{4, 2, 64}, Heads{2, 1, 200}}) {
      const AttentionProblem problem(heads, dtype, {90}, Numbers(3));
      expect_reference_bits(problem, 16, 9);
      expect_reference_bits(problem, 16, 80);
    }
  }
}

TEST(CudaAttention, StrangeValuesGiveTheReferenceBits) {
  for (const Data data : {Data::kWild, Data::kBroken}) {
    for (const int64_t head_dim : {16, 64}) {
      const AttentionProblem problem({.heads = 4, .kv_heads = 2, .head_dim = head_dim},
                                     DType::kFloat16, {280, 40}, Numbers(4, data));
      expect_reference_bits(problem, 16, 64);
      expect_reference_bits(problem, 16, 1);
    }
  }
}

// Head sizes and 16-bit results that decode has a kernel of its own for.
TEST(CudaDecode, ContextsAndBlockSizesGiveTheReferenceBits) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const int64_t head_dim : {64, 128}) {
      const AttentionProblem long_ones({.heads = 3, .kv_heads = 1, .head_dim = head_dim}, dtype,
                                       {600, 257, 256}, Numbers(2), dtype);
      expect_reference_bits(long_ones, 64, 1);
      // Sequences of one row beside others.
      const AttentionProblem mixed({.heads = 4, .kv_heads = 2, .head_dim = head_dim}, dtype,
                                   {70, 1, 33, 2}, Numbers(5), dtype);
      for (const int64_t block : {8, 16, 24, 32, 128}) {
        for (const int64_t chunk : {1, 32}) expect_reference_bits(mixed, block, chunk);
      }
    }
  }
}

TEST(CudaDecode, StrangeValuesGiveTheReferenceBits) {
  for (const Data data : {Data::kWild, Data::kBroken}) {
    const AttentionProblem problem({.heads = 4, .kv_heads = 2, .head_dim = 64}, DType::kFloat16,
                                   {280, 40}, Numbers(4, data), DType::kFloat16);
    expect_reference_bits(problem, 16, 1);
  }
}

// Scores far below the largest take another way. (V that is no number is not among them: see
// docs/numerics.md.)
TEST(CudaAttention, MatrixClassOfWildValuesDoesNotDependOnCuts) {
  const std::vector<int64_t> lengths(9, 150);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const int64_t head_dim : {64, 128}) {
      const AttentionProblem problem({.heads = 4, .kv_heads = 2, .head_dim = head_dim}, dtype,
                                     lengths, Numbers(3, Data::kWild), dtype);
      cuda().reserve({.max_tokens = 4096, .dtype = DType::kFloat32, .canonical_rows = 8});
      const auto whole = problem.run(cuda(), 64, 150);
      for (const int64_t chunk : {1, 7, 100}) {
        EXPECT_TRUE(equal_elements(dtype, whole, problem.run(cuda(), 16, chunk))) << chunk;
      }
    }
  }
}

// In passes of more than 8 rows: decode rows, chunks of prompts and whole ones give a token the
// same bits, close to the reference's.
TEST(CudaAttention, MatrixClassDoesNotDependOnCutsAndIsClose) {
  std::vector<int64_t> lengths(9, 330);  // so that no pass has fewer than 9 rows
  lengths.insert(lengths.begin() + 4, {70, 1, 33});
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const Heads& heads : {Heads{.heads = 4, .kv_heads = 2, .head_dim = 64},
                               Heads{.heads = 4, .kv_heads = 2, .head_dim = 128},
                               Heads{.heads = 11, .kv_heads = 1, .head_dim = 128}}) {
      const AttentionProblem problem(heads, dtype, lengths, Numbers(7), dtype);
      // No 16-bit matrices: racecheck reports cuBLAS's kernels.
      cuda().reserve({.max_tokens = 4096, .dtype = DType::kFloat32, .canonical_rows = 8});
      const auto whole = problem.run(cuda(), 64, 512);
      for (const int64_t chunk : {1, 7, 64, 100}) {
        EXPECT_TRUE(equal_elements(dtype, whole, problem.run(cuda(), 16, chunk))) << chunk;
      }
      EXPECT_TRUE(equal_elements(dtype, whole, problem.run(cuda(), 8, 1)));
      const auto exact = problem.run(*make_reference_backend(), 16, 1000);
      EXPECT_FALSE(equal_elements(dtype, exact, whole)) << "not the matrix class";
      // One unit in the last place where the exact result lies near the middle between two.
      const double unit = dtype == DType::kFloat16 ? 0x1p-10 : 0x1p-7;
      size_t different = 0;
      for (size_t i = 0; i < exact.size() / 2; ++i) {
        const double expected = element(dtype, exact.data(), i);
        const double off = std::abs(element(dtype, whole.data(), i) - expected);
        different += off == 0 ? 0 : 1;
        ASSERT_LE(off, unit * (std::abs(expected) + 0.01)) << i;
      }
      EXPECT_LT(different, exact.size() / 2 / 100);
    }
  }
}

/// Of `tokens` rows: norms of `a` with weights from `b`, then SiLU of `a` times `b`.
std::vector<std::byte> norms_and_activations(Backend& backend, const std::vector<float>& a,
                                             const std::vector<float>& b, int64_t tokens,
                                             DType dtype) {
  const int64_t width = static_cast<int64_t>(a.size()) / tokens;
  const size_t bytes = a.size() * dtype_size(dtype);
  std::vector<std::byte> results(2 * bytes);
  backend.rms_norm(a.data(), b.data(), 1e-5f, tokens, width, dtype, results.data());
  backend.silu_multiply(a.data(), b.data(), tokens, width, dtype, results.data() + bytes);
  return results;
}

TEST(CudaElementwise, NormsActivationsAndWideningHaveTheReferenceBits) {
  const auto reference = make_reference_backend();
  for (const DType dtype : kAllDTypes) {
    for (const int64_t width : {1, 7, 75, 255, 256, 576, 2056, 4096, 11008}) {
      for (const Data data : {Data::kPlain, Data::kBroken}) {
        constexpr int64_t kTokens = 3;
        Numbers numbers(static_cast<uint32_t>(width), data);
        const auto count = static_cast<size_t>(kTokens * width);
        const std::vector<float> a = numbers.floats(count);
        const std::vector<float> b = numbers.floats(count);
        const auto run = [&](Backend& backend) {
          const std::vector<std::byte> results =
              norms_and_activations(backend, a, b, kTokens, dtype);
          std::vector<float> widened(count);
          backend.widen(dtype, results.data(), kTokens, width, widened.data());
          const std::vector<int32_t> places = {2, 0, 0, 1, 2};
          std::vector<float> repeated(places.size() * static_cast<size_t>(width));
          backend.widen_places(dtype, results.data(), places, width, repeated.data());
          widened.insert(widened.end(), repeated.begin(), repeated.end());
          return std::pair(results, widened);
        };
        const auto expected = run(*reference);
        const auto actual = run(cuda());
        EXPECT_TRUE(equal_elements(dtype, expected.first, actual.first))
            << dtype_name(dtype) << " width " << width;
        EXPECT_TRUE(equal_bits(expected.second, actual.second));
      }
    }
  }
}

// Numbers of ordinary size have quotients without branches, four at a time.
TEST(CudaElementwise, SiluOfEverySizeHasTheReferenceBits) {
  constexpr size_t kCount = size_t{1} << 20;
  constexpr size_t kTogether = 4;
  std::vector<float> z;
  for (const float border : {0.0f, 0x1p-60f, 40.0f, 86.0f, 89.0f, 104.0f}) {
    for (const float value :
         {std::nextafter(border, 0.0f), border, std::nextafter(border, 200.0f)}) {
      z.insert(z.end(), kTogether, value);
      z.insert(z.end(), kTogether, -value);
    }
  }
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> ordinary(-45.0f, 45.0f);
  while (z.size() < kCount) {
    z.insert(z.end(), kTogether, ordinary(engine));
    z.insert(z.end(), kTogether, std::bit_cast<float>(static_cast<uint32_t>(engine())));
  }
  const std::vector<float> ones(z.size(), 1.0f);
  const auto run = [&](Backend& backend) {
    std::vector<float> out(z.size());
    backend.silu_multiply(z.data(), ones.data(), 1, static_cast<int64_t>(z.size()), DType::kFloat32,
                          reinterpret_cast<std::byte*>(out.data()));
    return out;
  };
  EXPECT_TRUE(equal_bits(run(*make_reference_backend()), run(cuda())));
}

// Passes of thousands of rows have kernels of their own.
TEST(CudaElementwise, ManyRowsHaveTheReferenceBits) {
  const auto reference = make_reference_backend();
  constexpr int64_t kTokens = 4099;
  for (const DType dtype : kAllDTypes) {
    for (const int64_t width : {4, 75, 508, 1001, 4104}) {
      for (const Data data : {Data::kPlain, Data::kBroken}) {
        Numbers numbers(static_cast<uint32_t>(width), data);
        const auto count = static_cast<size_t>(kTokens * width);
        const std::vector<float> a = numbers.floats(count);
        const std::vector<float> b = numbers.floats(count);
        EXPECT_TRUE(equal_elements(dtype, norms_and_activations(*reference, a, b, kTokens, dtype),
                                   norms_and_activations(cuda(), a, b, kTokens, dtype)))
            << dtype_name(dtype) << " width " << width;
      }
    }
  }
}

TEST(CudaSampling, BestTokensAreTheLargestLogits) {
  for (const int64_t vocab : {1, 5, 1003, 32000, 128256}) {
    Numbers numbers(static_cast<uint32_t>(vocab));
    constexpr int64_t kRows = 5;
    std::vector<float> logits = numbers.floats(static_cast<size_t>(kRows * vocab));
    logits[static_cast<size_t>(vocab - 1)] = 50.0f;
    if (vocab > 4) {
      // Equal logits, at the top and, in the last row, everywhere; zeros of both signs.
      logits[static_cast<size_t>(vocab + 2)] = logits[static_cast<size_t>(vocab + 4)] = 9;
      std::fill(logits.end() - vocab, logits.end(), -1.5f);
      logits[static_cast<size_t>(2 * vocab)] = 0.0f;
      logits[static_cast<size_t>(2 * vocab + 1)] = -0.0f;
    }
    for (const int64_t count : {1, 2, 50, 128}) {
      if (count > vocab) continue;
      std::vector<int32_t> ids(static_cast<size_t>(kRows * count));
      std::vector<float> values(ids.size());
      std::vector<float> log_sums(kRows);
      ASSERT_TRUE(
          cuda().best_tokens(logits.data(), vocab,
                             {.count = count, .ids = ids, .logits = values, .log_sums = log_sums}));
      for (int64_t row = 0; row < kRows; ++row) {
        const float* begin = logits.data() + row * vocab;
        std::vector<int32_t> order(static_cast<size_t>(vocab));
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int32_t a, int32_t b) { return begin[a] > begin[b]; });
        double sum = 0;
        for (int64_t i = 0; i < vocab; ++i) {
          sum += std::exp(static_cast<double>(begin[i]) - static_cast<double>(begin[order[0]]));
        }
        EXPECT_NEAR(log_sums[static_cast<size_t>(row)], std::log(sum), 1e-4);
        for (int64_t i = 0; i < count; ++i) {
          const auto at = static_cast<size_t>(row * count + i);
          EXPECT_EQ(ids[at], order[static_cast<size_t>(i)]) << "row " << row << " place " << i;
          EXPECT_EQ(values[at], begin[ids[at]]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace headrace::testing
