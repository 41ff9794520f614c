#include "checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::read_file;
using testing::TemporaryDirectory;

TEST(SafetensorsWriter, WritesTheFormat) {
  const TemporaryDirectory folder;
  const std::vector<TensorToWrite> tensors = {
      {.name = "a.weight", .dtype = DType::kBFloat16, .shape = {1, 2}},
      {.name = "quoted \"b\"", .dtype = DType::kFloat32, .shape = {1}}};
  {
    const auto file = posix_file_system().create(folder / "t");
    SafetensorsWriter writer(*file, tensors);
    EXPECT_EQ(writer.data_bytes(), 8u);
    writer.append(std::as_bytes(std::span("abc", 3)));
    writer.append(std::as_bytes(std::span("defgh", 5)));
    writer.finish();
  }
  const std::string bytes = read_file(folder / "t");
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("a.weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},)"
                             R"("quoted \"b\"":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ((bytes.size() - 8) % 64, 0u);  // the data begin on a multiple of 64
  EXPECT_EQ(static_cast<uint8_t>(bytes[0]), bytes.size() - 16);
  EXPECT_EQ(bytes.substr(bytes.size() - 8), "abcdefgh");
  EXPECT_EQ(bytes.find_first_not_of(' ', 8 + header.size()), bytes.size() - 8);
}

TEST(SafetensorsWriter, CountsItsBytes) {
  const TemporaryDirectory folder;
  const auto file = posix_file_system().create(folder / "t");
  const std::vector<TensorToWrite> tensors = {
      {.name = "a", .dtype = DType::kFloat16, .shape = {2}}};
  SafetensorsWriter writer(*file, tensors);
  EXPECT_THROW(writer.append(std::as_bytes(std::span("12345", 5))), Error);
  EXPECT_THROW(writer.finish(), Error);
}

RC_GTEST_PROP(SafetensorsWriterProperty, TheReaderReadsWhatWasWritten, ()) {
  const TemporaryDirectory folder;
  const auto count = *rc::gen::inRange(0, 6);
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < count; ++i) {
    tensors.push_back(
        {.name = fmt::format("t{}", i),
         .dtype = *rc::gen::element(DType::kFloat32, DType::kFloat16, DType::kBFloat16),
         .shape = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(1, 4))});
    if (tensors.back().shape.size() > 4) tensors.back().shape.resize(4);
  }
  std::vector<std::byte> data;
  {
    const auto file = posix_file_system().create(folder / "t");
    SafetensorsWriter writer(*file, tensors);
    for (uint64_t i = 0; i < writer.data_bytes(); ++i) data.push_back(std::byte(i * 37));
    writer.append(data);
    writer.finish();
  }
  const auto reader = SafetensorsReader::open(posix_file_system(), folder / "t");
  RC_ASSERT(reader.entries().size() == tensors.size());
  std::vector<std::byte> read;
  for (const TensorToWrite& tensor : tensors) {
    const TensorEntry* entry = reader.find(tensor.name);
    RC_ASSERT(entry != nullptr);
    RC_ASSERT(entry->shape == tensor.shape);
    RC_ASSERT(entry->dtype == tensor.dtype);
    std::vector<std::byte> bytes(entry->size_bytes);
    reader.read(*entry, 0, bytes);
    read.insert(read.end(), bytes.begin(), bytes.end());
  }
  RC_ASSERT(read == data);
}

}  // namespace
}  // namespace headrace
