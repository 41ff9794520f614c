#include "checkpoint/gguf.h"

#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "checkpoint/quant_blocks.h"
#include "tests/checkpoint/gguf_bytes.h"
#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/memory_file.h"

namespace headrace {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::GgufBytes;
using testing::golden_path;
using testing::MemoryFile;
using testing::read_file;

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

GgufFile open_golden() {
  return GgufFile::open(posix_file_system(), golden_path("checkpoint/quants.gguf"));
}

GgufFile parse(std::vector<std::byte> bytes) {
  return GgufFile::read(std::make_unique<MemoryFile>(std::move(bytes)));
}

void expect_value(const GgufValue& value, const json& expected) {
  const auto* texts = std::get_if<std::vector<std::string>>(&value);
  if (texts != nullptr) {
    EXPECT_EQ(*texts, expected.get<std::vector<std::string>>());
  } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    EXPECT_EQ(*integers, expected.get<std::vector<int64_t>>());
  } else if (const auto* fractions = std::get_if<std::vector<double>>(&value)) {
    EXPECT_EQ(*fractions, expected.get<std::vector<double>>());
  } else if (const auto* truths = std::get_if<std::vector<bool>>(&value)) {
    EXPECT_EQ(*truths, expected.get<std::vector<bool>>());
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    ASSERT_TRUE(expected.is_number_integer());
    EXPECT_EQ(*integer, expected.get<int64_t>());
  } else if (const auto* fraction = std::get_if<double>(&value)) {
    ASSERT_TRUE(expected.is_number_float());
    EXPECT_EQ(*fraction, expected.get<double>());
  } else if (const auto* truth = std::get_if<bool>(&value)) {
    ASSERT_TRUE(expected.is_boolean());
    EXPECT_EQ(*truth, expected.get<bool>());
  } else {
    EXPECT_EQ(std::get<std::string>(value), expected.get<std::string>());
  }
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  const GgufFile gguf = open_golden();
  const json expected = json::parse(read_file(golden_path("checkpoint/metadata.json")));
  EXPECT_EQ(expected.size(), 18u);
  for (const auto& [key, value] : expected.items()) {
    SCOPED_TRACE(key);
    const auto found = gguf.metadata().find(key);
    ASSERT_NE(found, gguf.metadata().end());
    expect_value(found->second, value);
  }
}

TEST(Gguf, TypedAccess) {
  const GgufFile gguf = open_golden();
  EXPECT_EQ(gguf.integer("test.u32"), 4000000000);
  EXPECT_EQ(gguf.integer("test.none", 5), 5);
  EXPECT_EQ(gguf.number("test.f32", 0), 0.5);
  EXPECT_EQ(gguf.number("test.u8", 0), 200.0);
  EXPECT_EQ(gguf.find_text("test.none"), nullptr);
  expect_error(ErrorCode::kCorrupt, "test.text should be an integer",
               [&] { gguf.integer("test.text", 1); });
  expect_error(ErrorCode::kCorrupt, "no key test.none", [&] { gguf.integer("test.none"); });
}

TEST(Gguf, TensorsHaveTheValuesThatTheGgufPackageReads) {
  const GgufFile gguf = open_golden();
  const json expected = json::parse(read_file(golden_path("checkpoint/quants.json")));
  ASSERT_EQ(gguf.tensors().size(), expected.size());
  for (const auto& [name, tensor] : expected.items()) {
    SCOPED_TRACE(name);
    const GgufTensor* found = gguf.find(name);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(quant_type_name(static_cast<uint32_t>(found->type)),
              tensor["type"].get<std::string>());
    EXPECT_EQ(found->shape, tensor["shape"].get<std::vector<int64_t>>());
    const auto values = tensor["values"].get<std::vector<float>>();
    std::vector<std::byte> bytes(found->size_bytes);
    gguf.read(*found, 0, bytes);
    std::vector<float> read(values.size());
    dequantize(found->type, bytes, read);
    EXPECT_EQ(read, values);
  }
}

TEST(Gguf, ReadsAnyRangeOfATensor) {
  const GgufFile gguf = open_golden();
  const GgufTensor* tensor = gguf.find("Q4_1.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->rows(), 3);
  EXPECT_EQ(tensor->row_elements(), 64);
  EXPECT_EQ(tensor->row_bytes(), 40u);
  std::vector<std::byte> all(tensor->size_bytes);
  gguf.read(*tensor, 0, all);
  std::vector<std::byte> row(40);
  gguf.read(*tensor, 80, row);
  EXPECT_THAT(row, ::testing::ElementsAreArray(all.begin() + 80, all.end()));
}

TEST(Gguf, UnreadableTypesAreNamed) {
  expect_error(ErrorCode::kUnsupported, "tensor some.weight is of type Q5_0", [] {
    GgufFile::open(posix_file_system(), golden_path("checkpoint/unreadable.gguf"));
  });
}

TEST(Gguf, Version2IsReadAndOthersAreNot) {
  EXPECT_EQ(parse(GgufBytes(0, 0, 2).take()).tensors().size(), 0u);
  expect_error(ErrorCode::kUnsupported, "version 1", [] { parse(GgufBytes(0, 0, 1).take()); });
  expect_error(ErrorCode::kUnsupported, "version 4", [] { parse(GgufBytes(0, 0, 4).take()); });
  expect_error(ErrorCode::kUnsupported, "big-endian",
               [] { parse(GgufBytes(0, 0, 0x03000000).take()); });
}

TEST(Gguf, AlignmentMovesTheData) {
  GgufBytes bytes(1, 1);
  bytes.key("general.alignment", GgufBytes::kUint32).add(uint32_t{256});
  bytes.tensor("w", {2}, GgufBytes::kTypeF32, 0);
  std::vector<std::byte> file = bytes.take();
  file.resize(256 + 8);
  const GgufFile gguf = parse(std::move(file));
  EXPECT_EQ(gguf.find("w")->offset, 256u);
}

struct Hostile {
  const char* name;
  std::function<std::vector<std::byte>()> make;
  ErrorCode code;
  const char* message;
};

class GgufHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(GgufHostile, IsRefused) {
  expect_error(GetParam().code, GetParam().message, [] { parse(GetParam().make()); });
}

constexpr uint32_t kF32 = GgufBytes::kTypeF32;
constexpr uint32_t kQ8 = 8;

INSTANTIATE_TEST_SUITE_P(
    All, GgufHostile,
    ::testing::Values(
        Hostile{"Empty", [] { return std::vector<std::byte>(); }, ErrorCode::kCorrupt,
                "not a GGUF file"},
        Hostile{"Magic", [] { return std::vector<std::byte>(64); }, ErrorCode::kCorrupt,
                "not a GGUF file"},
        Hostile{"TensorCount", [] { return GgufBytes(kHuge, 0).take(); }, ErrorCode::kCorrupt,
                "18446744073709551615 tensors"},
        Hostile{"KeyCount", [] { return GgufBytes(0, kHuge).take(); }, ErrorCode::kCorrupt,
                "18446744073709551615 keys and 0 tensors are more than"},
        Hostile{"MissingKeys", [] { return GgufBytes(0, 3).take(); }, ErrorCode::kCorrupt,
                "cut short"},
        Hostile{"KeyLength", [] { return GgufBytes(0, 1).add(kHuge).take(); }, ErrorCode::kCorrupt,
                "a key of 18446744073709551615 bytes"},
        Hostile{"TextLength",
                [] { return GgufBytes(0, 1).key("k", GgufBytes::kString).add(kHuge).take(); },
                ErrorCode::kCorrupt, "a text of 18446744073709551615 bytes"},
        Hostile{"ListLength",
                [] { return GgufBytes(0, 1).list("k", GgufBytes::kUint64, kHuge).take(); },
                ErrorCode::kCorrupt, "18446744073709551615 values"},
        Hostile{"ListOfLists",
                [] { return GgufBytes(0, 1).list("k", GgufBytes::kArray, 0).take(); },
                ErrorCode::kUnsupported, "list of lists"},
        Hostile{"ValueType", [] { return GgufBytes(0, 1).key("k", 13).take(); },
                ErrorCode::kCorrupt, "unknown value type 13"},
        Hostile{"ListType", [] { return GgufBytes(0, 1).list("k", 99, 1).data(8).take(); },
                ErrorCode::kCorrupt, "unknown value type 99"},
        Hostile{"Bool",
                [] { return GgufBytes(0, 1).key("k", GgufBytes::kBool).add(uint8_t{2}).take(); },
                ErrorCode::kCorrupt, "neither true nor false"},
        Hostile{"LargeInteger",
                [] { return GgufBytes(0, 1).key("k", GgufBytes::kUint64).add(kHuge).take(); },
                ErrorCode::kCorrupt, "too large"},
        Hostile{"KeyTwice",
                [] {
                  GgufBytes bytes(0, 2);
                  bytes.key("k", GgufBytes::kUint32).add(1u).key("k", GgufBytes::kUint32).add(2u);
                  return bytes.take();
                },
                ErrorCode::kCorrupt, "key k is there twice"},
        Hostile{"KeyNotUtf8",
                [] { return GgufBytes(0, 1).key("\xc0\x80", GgufBytes::kUint32).add(1u).take(); },
                ErrorCode::kCorrupt, "not UTF-8"},
        Hostile{"TensorTwice",
                [] {
                  GgufBytes bytes(2, 0);
                  bytes.tensor("w", {8}, kF32, 0).tensor("w", {8}, kF32, 32);
                  return bytes.data(64).take();
                },
                ErrorCode::kCorrupt, "tensor w is there twice"},
        Hostile{"Overlap",
                [] {
                  GgufBytes bytes(2, 0);
                  bytes.tensor("a", {9}, kF32, 0).tensor("b", {8}, kF32, 32);
                  return bytes.data(64).take();
                },
                ErrorCode::kCorrupt, "tensors a and b overlap"},
        Hostile{"PastTheEnd",
                [] { return GgufBytes(1, 0).tensor("w", {9}, kF32, 0).data(35).take(); },
                ErrorCode::kCorrupt, "tensor w of 36 bytes"},
        Hostile{"OffsetPastTheEnd",
                [] { return GgufBytes(1, 0).tensor("w", {8}, kF32, kHuge - 31).data(32).take(); },
                ErrorCode::kCorrupt, "was the file cut short"},
        Hostile{"Misaligned",
                [] { return GgufBytes(1, 0).tensor("w", {8}, kF32, 4).data(64).take(); },
                ErrorCode::kCorrupt, "at byte 4"},
        Hostile{"ZeroDimension",
                [] { return GgufBytes(1, 0).tensor("w", {8, 0}, kF32, 0).data(32).take(); },
                ErrorCode::kCorrupt, "a dimension of 0"},
        Hostile{"HugeDimensions",
                [] {
                  const uint64_t side = uint64_t{1} << 32;
                  return GgufBytes(1, 0).tensor("w", {side, side, side}, kF32, 0).data(32).take();
                },
                ErrorCode::kCorrupt, "a dimension of 4294967296"},
        Hostile{"DimensionCount",
                [] { return GgufBytes(1, 0).tensor("w", {1, 1, 1, 1, 8}, kF32, 0).take(); },
                ErrorCode::kCorrupt, "has 5 dimensions"},
        Hostile{"PartOfABlock",
                [] { return GgufBytes(1, 0).tensor("w", {33}, kQ8, 0).data(68).take(); },
                ErrorCode::kCorrupt, "no whole number of Q8_0 blocks"},
        Hostile{"TensorType",
                [] { return GgufBytes(1, 0).tensor("w", {8}, 77, 0).data(32).take(); },
                ErrorCode::kUnsupported, "tensor w is of type type 77"},
        Hostile{"Alignment",
                [] {
                  GgufBytes bytes(0, 1);
                  return bytes.key("general.alignment", GgufBytes::kUint32).add(24u).take();
                },
                ErrorCode::kCorrupt, "general.alignment is 24"}),
    [](const auto& info) { return info.param.name; });

TEST(Gguf, NameOfATensorCannotBreakTheLine) {
  expect_error(ErrorCode::kUnsupported, "tensor a?b ",
               [] { parse(GgufBytes(1, 0).tensor("a\nb", {8}, 77, 0).data(32).take()); });
}

std::vector<std::byte> golden_bytes() {
  const std::string text = read_file(golden_path("checkpoint/quants.gguf"));
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Reads whatever is there; an Error is fine, anything else is not.
void parse_and_read_all(std::vector<std::byte> bytes) {
  try {
    const GgufFile gguf = parse(std::move(bytes));
    for (const GgufTensor& tensor : gguf.tensors()) {
      std::vector<std::byte> data(tensor.size_bytes);
      gguf.read(tensor, 0, data);
    }
  } catch (const Error& error) {
    RC_ASSERT(error.code() != ErrorCode::kInternal);
  }
}

RC_GTEST_PROP(GgufProperty, CutFilesAreRefused, ()) {
  std::vector<std::byte> bytes = golden_bytes();
  const GgufFile whole = parse(bytes);
  uint64_t end = 0;
  for (const GgufTensor& tensor : whole.tensors()) {
    end = std::max(end, tensor.offset + tensor.size_bytes);
  }
  bytes.resize(*rc::gen::inRange<size_t>(0, end));
  RC_ASSERT_THROWS_AS(parse(std::move(bytes)), Error);
}

RC_GTEST_PROP(GgufProperty, ForgedBytesNeverCrash, ()) {
  std::vector<std::byte> bytes = golden_bytes();
  const auto edits = *rc::gen::inRange(1, 6);
  for (int i = 0; i < edits; ++i) {
    bytes[*rc::gen::inRange<size_t>(0, bytes.size())] =
        *rc::gen::cast<std::byte>(rc::gen::element<int>(0, 1, 8, 9, 0x7f, 0x80, 0xfe, 0xff));
  }
  parse_and_read_all(std::move(bytes));
}

}  // namespace
}  // namespace headrace
