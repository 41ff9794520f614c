#include <algorithm>
#include <array>
#include <random>
#include <tuple>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "kernels/cpu/coded_kernels.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/matmul_problem.h"

namespace headrace::testing {
namespace {

std::vector<uint16_t> decode(const cpu::CodedKernels& kernels, const RowLayout& layout,
                             const std::byte* row) {
  std::vector<uint16_t> out(static_cast<size_t>(cpu::decoded_elements(layout.k)));
  kernels.decode(layout, row, reinterpret_cast<std::byte*>(out.data()));
  return out;
}

/// Every decoder restores the elements and the padding that decode_row() does.
void expect_decoded(CodecId codec, DType dtype, std::span<const uint16_t> row) {
  const auto k = static_cast<int64_t>(row.size());
  const RowBook book = choose_book(codec, dtype, row);
  const uint64_t stride =
      RowLayout::stride_for(codec, dtype, k, static_cast<uint64_t>(book.escapes));
  const RowLayout layout = RowLayout::of(codec, dtype, k, stride);
  std::vector<std::byte> coded(stride);
  encode_row(layout, book, row, coded.data());
  std::vector<uint16_t> expected(static_cast<size_t>(cpu::decoded_elements(k)));
  decode_row(layout, coded.data(), expected);
  ASSERT_TRUE(std::equal(row.begin(), row.end(), expected.begin()));
  for (const cpu::CodedKernels* kernels : cpu::coded_kernels_for(detect_cpu_isa())) {
    ASSERT_EQ(decode(*kernels, layout, coded.data()), expected)
        << codec_name(codec) << " " << dtype_name(dtype) << " k " << k;
  }
}

TEST(Coded, EveryPatternIsDecoded) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<uint16_t> shuffled = all;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(1));
  // In rows of a few exponents each, so that patterns are coded and not escaped.
  std::sort(all.begin(), all.end(), [](uint16_t a, uint16_t b) {
    return std::tuple(a & 0x7fff, a) < std::tuple(b & 0x7fff, b);
  });
  for (const auto& [codec, dtype] : kCodecs) {
    expect_decoded(codec, dtype, shuffled);
    for (size_t begin = 0; begin < all.size(); begin += 1792) {
      expect_decoded(codec, dtype,
                     std::span(all).subspan(begin, std::min<size_t>(1792, all.size() - begin)));
    }
  }
}

TEST(Coded, RowsOfEveryLengthAreDecoded) {
  Numbers numbers(1, Data::kBroken);
  for (const auto& [codec, dtype] : kCodecs) {
    for (int64_t k = 1; k < 1100; k += k % 256 < 3 || k % 256 > 252 ? 1 : 50) {
      const std::vector<std::byte> row = numbers.elements(dtype, static_cast<size_t>(k));
      expect_decoded(codec, dtype,
                     {reinterpret_cast<const uint16_t*>(row.data()), static_cast<size_t>(k)});
    }
  }
}

RC_GTEST_PROP(CodedProperty, RandomRowsAreDecoded, ()) {
  const auto [codec, dtype] = kCodecs[*rc::gen::inRange<size_t>(0, std::size(kCodecs))];
  std::vector<uint16_t> row(*rc::gen::inRange<size_t>(1, 5000));
  const auto kinds = *rc::gen::inRange(1u, 60u);  // exponents that occur
  std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
  const int shift = dtype == DType::kBFloat16 ? 7 : 10;
  for (uint16_t& bits : row) {
    const auto noise = static_cast<uint32_t>(random());
    const auto exponent = static_cast<uint32_t>(random()) % kinds * 5;
    const uint32_t mask = 0x7fffu >> shift << shift;
    bits = static_cast<uint16_t>((noise & ~mask) | (exponent << shift & mask));
  }
  expect_decoded(codec, dtype, row);
}

// As on processors that have AVX-512 without VBMI.
TEST(Coded, EveryDecoderServesTheKernelsOfTheBestInstructionSet) {
  const CpuIsa isa = detect_cpu_isa();
  const cpu::CpuKernels* kernels = isa == CpuIsa::kAvx512 ? cpu::avx512_kernels()
                                   : isa == CpuIsa::kAvx2 ? cpu::avx2_kernels()
                                                          : cpu::portable_kernels();
  ThreadPool pool(2);
  for (const cpu::CodedKernels* coded : cpu::coded_kernels_for(isa)) {
    CpuBackend backend(pool, isa, *kernels, *coded);
    for (const auto& [codec, dtype] : kCodecs) {
      for (const int64_t tokens : {1, 5, 9}) {
        const MatmulProblem problem(
            {.dtype = dtype, .rows = 21, .k = 1100, .tokens = tokens, .codec = codec}, Data::kWild,
            7);
        EXPECT_TRUE(equal_bits(problem.expected(), problem.run(backend)));
      }
    }
  }
}

/// A coded row whose bytes no encoder wrote, in memory that ends where it ends.
struct ForgedRow {
  ForgedRow() : kind(kCodecs[*rc::gen::inRange<size_t>(0, std::size(kCodecs))]) {
    const auto k = *rc::gen::inRange<int64_t>(1, 5000);
    const auto escapes = *rc::gen::inRange<uint64_t>(0, 3000);
    layout = RowLayout::of(kind.first, kind.second, k,
                           RowLayout::stride_for(kind.first, kind.second, k, escapes));
    std::mt19937 random(*rc::gen::arbitrary<uint32_t>());
    const int zeros = *rc::gen::inRange(0, 3);  // the more, the more escapes
    bytes.resize(layout.stride_bytes);
    for (std::byte& byte : bytes) {
      auto bits = static_cast<uint32_t>(random());
      for (int i = 0; i < zeros; ++i) bits &= static_cast<uint32_t>(random());
      byte = static_cast<std::byte>(bits & 0xff);
    }
  }
  /// Of others, what is decoded is not defined.
  bool escapes_fit() const {
    return count_escapes(layout, bytes.data()) <= static_cast<int64_t>(layout.escape_capacity);
  }

  std::pair<CodecId, DType> kind;
  RowLayout layout;
  std::vector<std::byte> bytes;
};

// What is read outside of a row, the address sanitizer sees.
RC_GTEST_PROP(CodedProperty, DecodersStayInForgedRows, ()) {
  const ForgedRow row;
  std::vector<uint16_t> expected(static_cast<size_t>(cpu::decoded_elements(row.layout.k)));
  decode_row(row.layout, row.bytes.data(), expected);
  for (const cpu::CodedKernels* kernels : cpu::coded_kernels_for(detect_cpu_isa())) {
    const std::vector<uint16_t> decoded = decode(*kernels, row.layout, row.bytes.data());
    if (row.escapes_fit()) RC_ASSERT(decoded == expected);
  }
}

RC_GTEST_PROP(CodedProperty, ProductsStayInForgedRows, ()) {
  const ForgedRow row;
  const auto [codec, dtype] = row.kind;
  const int64_t k = row.layout.k;
  const int64_t tokens = *rc::gen::elementOf(std::vector<int64_t>{1, 2, 8, 9});
  Numbers numbers(*rc::gen::arbitrary<uint32_t>());
  const std::vector<std::byte> x = numbers.elements(dtype, static_cast<size_t>(tokens * k));
  const WeightRun run{
      .data = row.bytes.data(), .rows = 1, .row_stride_bytes = row.bytes.size(), .codec = codec};
  for (const CpuIsa isa : isas_here()) {
    std::vector<float> out(static_cast<size_t>(tokens));
    const std::array outputs = {MatrixOutput{.rows = 1, .out = out.data(), .stride = 1}};
    ListFeed feed({{run}});
    BackendUnderTest(isa, 1).backend->matmul({.dtype = dtype,
                                              .tokens = tokens,
                                              .k = k,
                                              .x = x.data(),
                                              .x_stride_bytes = static_cast<size_t>(k) * 2,
                                              .outputs = outputs},
                                             feed);
  }
}

}  // namespace
}  // namespace headrace::testing
