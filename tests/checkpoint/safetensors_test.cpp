#include "checkpoint/safetensors.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/memory_file.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::golden_path;
using testing::MemoryFile;
using testing::read_file;
using testing::TemporaryDirectory;

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<int>(b));
  return text;
}

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "float32" || name == "float16" || name == "bfloat16") return parse_dtype(name, name);
  return std::nullopt;
}

TEST(Safetensors, ReadsWhatTheSafetensorsPackageWrites) {
  const auto reader =
      SafetensorsReader::open(posix_file_system(), golden_path("checkpoint/types.safetensors"));
  const json expected = json::parse(read_file(golden_path("checkpoint/types.json")));
  EXPECT_EQ(reader.entries().size(), expected.size());
  for (const auto& [name, tensor] : expected.items()) {
    SCOPED_TRACE(name);
    const TensorEntry* entry = reader.find(name);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->name, name);
    EXPECT_EQ(entry->shape, tensor["shape"].get<std::vector<int64_t>>());
    EXPECT_EQ(entry->dtype, dtype_of(tensor["dtype"]));
    std::vector<std::byte> bytes(entry->size_bytes);
    reader.read(*entry, 0, bytes);
    EXPECT_EQ(hex(bytes), tensor["hex"].get<std::string>());
  }
  EXPECT_EQ(reader.find("ids.i64")->stored_type, "I64");
  EXPECT_EQ(reader.find("cube.u8")->elements(), 24u);
  EXPECT_EQ(reader.find("scalar.f64")->elements(), 1u);
  EXPECT_EQ(reader.find("empty.f32")->elements(), 0u);
  EXPECT_EQ(reader.find("no such"), nullptr);
}

TEST(Safetensors, ReadsAnyRange) {
  const auto reader =
      SafetensorsReader::open(posix_file_system(), golden_path("checkpoint/types.safetensors"));
  const TensorEntry* entry = reader.find("cube.u8");
  ASSERT_NE(entry, nullptr);
  std::vector<std::byte> bytes(3);
  reader.read(*entry, 21, bytes);
  EXPECT_EQ(hex(bytes), "151617");
  EXPECT_THROW(reader.read(*entry, 22, bytes), Error);
}

TEST(Safetensors, EntriesFollowTheData) {
  const std::string text = R"({"b":{"dtype":"F16","shape":[2],"data_offsets":[4,8]},)"
                           R"("a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}})";
  const auto entries = parse_safetensors_header(text, 100, 108, "t");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[0].offset, 100u);
  EXPECT_EQ(entries[1].offset, 104u);
  EXPECT_EQ(entries[1].size_bytes, 4u);
}

/// A header whose only tensor is "w" with these members, over 8 bytes of data.
struct Hostile {
  const char* name;
  std::string header;
  const char* message;
  ErrorCode code = ErrorCode::kCorrupt;
};

std::string one(const std::string& members) { return R"({"w":{)" + members + "}}"; }

std::string repeated(const std::string& part, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += part;
  return text;
}

class SafetensorsHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(SafetensorsHostile, IsRefused) {
  expect_error(GetParam().code, GetParam().message,
               [] { parse_safetensors_header(GetParam().header, 64, 72, "model.safetensors"); });
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsHostile,
    ::testing::Values(
        Hostile{"NotJson", "{\"w\":", "not JSON"}, Hostile{"Empty", "", "not JSON"},
        Hostile{"Trailing", "{} {}", "not JSON"},
        Hostile{"InvalidUtf8", "{\"\xff\":1}", "not JSON"},
        Hostile{"List", "[]", "a list where it should not"},
        Hostile{"Number", "7", "a number where it should not"},
        Hostile{"DeepLists", repeated("[", 100000), "a list where it should not"},
        Hostile{"DeepObjects", repeated("{\"a\":", 100000), "unknown field 'a'"},
        Hostile{"DeepShape", one(R"("dtype":"F32","shape":[[2]],"data_offsets":[0,8])"),
                "a list where it should not, at tensor w"},
        Hostile{"TensorIsText", R"({"w":"F32"})", "a string where it should not"},
        Hostile{"TensorIsNull", R"({"w":null})", "null where it should not"},
        Hostile{"NoType", one(R"("shape":[2],"data_offsets":[0,8])"), "lacks"},
        Hostile{"NoShape", one(R"("dtype":"F32","data_offsets":[0,8])"), "lacks"},
        Hostile{"NoOffsets", one(R"("dtype":"F32","shape":[2])"), "lacks"},
        Hostile{"UnknownType", one(R"("dtype":"Q4","shape":[2],"data_offsets":[0,8])"),
                "unknown type 'Q4'", ErrorCode::kUnsupported},
        Hostile{"UnknownField", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1)"),
                "unknown field 'x'"},
        Hostile{"WrongType", one(R"("dtype":"F16","shape":[2],"data_offsets":[0,8])"),
                "not those of its shape"},
        Hostile{"WrongShape", one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
                "not those of its shape"},
        Hostile{"NegativeShape", one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
                "a negative number"},
        Hostile{"FractionShape", one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"),
                "a fraction"},
        Hostile{"OverflowingShape",
                one(R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,0])"),
                "not those of its shape"},
        Hostile{"HugeDimension",
                one(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"),
                "a dimension of 18446744073709551615"},
        Hostile{"ManyDimensions",
                one(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8])"),
                "more than 8 dimensions"},
        Hostile{"OffsetsReversed", one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"),
                "not those of its shape"},
        Hostile{"OffsetsPastTheEnd", one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"),
                "ends at byte 80 of a file of 72"},
        Hostile{"OffsetsOverflow",
                one(R"("dtype":"U8","shape":[8],)"
                    R"("data_offsets":[18446744073709551607,18446744073709551615])"),
                "not those of its shape"},
        Hostile{"OneOffset", one(R"("dtype":"F32","shape":[2],"data_offsets":[0])"),
                "are not two numbers"},
        Hostile{"ThreeOffsets", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"),
                "a number where it should not"},
        Hostile{"FieldTwice",
                one(R"("dtype":"F16","dtype":"F32","shape":[2],"data_offsets":[0,8])"),
                "'dtype' twice"},
        Hostile{"NameTwice",
                R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                "tensor w is there twice"},
        Hostile{"Overlap",
                R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                R"("b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                "tensor b overlaps"},
        Hostile{"Gap", one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
                "4 bytes in front of tensor w"},
        Hostile{"Tail", one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"),
                "the last 4 bytes"},
        Hostile{"NoTensors", R"({"__metadata__":{"a":"b"}})", "the last 8 bytes"},
        Hostile{"MetadataNotText", R"({"__metadata__":{"a":1}})", "a number where it should not"},
        Hostile{"LineBreakInName", R"({"w\nx":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                "last 4 bytes"},
        Hostile{"LineBreakInType", one(R"("dtype":"F\n32","shape":[2],"data_offsets":[0,8])"),
                "unknown type 'F?32'", ErrorCode::kUnsupported}),
    [](const auto& info) { return info.param.name; });

std::string write_bytes(const TemporaryDirectory& folder, uint64_t header_bytes,
                        const std::string& rest) {
  const std::string path = folder / "file.safetensors";
  const auto file = posix_file_system().create(path);
  file->append(std::as_bytes(std::span(&header_bytes, 1)));
  append_text(*file, rest);
  return path;
}

TEST(Safetensors, HeaderLengthIsHeldAgainstTheFile) {
  const TemporaryDirectory folder;
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 40, ~uint64_t{0}}) {
    const std::string path = write_bytes(folder, length, "{}");
    expect_error(ErrorCode::kCorrupt, "in a file of 10",
                 [&] { SafetensorsReader::open(posix_file_system(), path); });
  }
  const std::string path = folder / "short";
  append_text(*posix_file_system().create(path), "1234567");
  expect_error(ErrorCode::kCorrupt, "too short",
               [&] { SafetensorsReader::open(posix_file_system(), path); });
  expect_error(ErrorCode::kNotFound, "no such",
               [&] { SafetensorsReader::open(posix_file_system(), folder / "no such"); });
}

RC_GTEST_PROP(SafetensorsProperty, CutFilesAreRefused, ()) {
  const std::string whole = read_file(golden_path("checkpoint/types.safetensors"));
  const auto size = *rc::gen::inRange<size_t>(0, whole.size());
  auto cut = std::make_unique<MemoryFile>(std::as_bytes(std::span(whole).first(size)));
  RC_ASSERT_THROWS_AS(SafetensorsReader::read(std::move(cut)), Error);
}

RC_GTEST_PROP(SafetensorsProperty, ForgedHeadersNeverCrash, ()) {
  const std::string whole = read_file(golden_path("checkpoint/types.safetensors"));
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), sizeof length);
  std::string header = whole.substr(8, length);
  const auto edits = *rc::gen::inRange(1, 5);
  for (int i = 0; i < edits; ++i) {
    header[*rc::gen::inRange<size_t>(0, header.size())] =
        *rc::gen::element('0', '9', '"', ',', '{', '}', '[', ']', '-', 'e', '\0', '\xff');
  }
  try {
    for (const TensorEntry& entry :
         parse_safetensors_header(header, 8 + length, whole.size(), "forged")) {
      RC_ASSERT(entry.offset + entry.size_bytes <= whole.size());
    }
  } catch (const Error& error) {
    RC_ASSERT(error.code() != ErrorCode::kInternal);
  }
}

}  // namespace
}  // namespace headrace
