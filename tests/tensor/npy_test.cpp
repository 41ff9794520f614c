#include "tensor/npy.h"

#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/error_matchers.h"
#include "tests/support/golden.h"
#include "tests/support/limited_file_system.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::expect_error;
using testing::golden_path;
using testing::read_file;

const std::vector<int32_t> kInts = {1, -2, 3, 2147483647, -2147483647 - 1, 0};

NpyIntMatrix read(const std::string& path) {
  return read_npy_int_matrix(posix_file_system(), path);
}

class NpyTest : public ::testing::Test {
 protected:
  std::string write(const std::string& bytes) {
    const std::string path = folder_ / "x.npy";
    write_text_file(posix_file_system(), path, bytes);
    return path;
  }

  /// A version 1.0 file with this description and these elements.
  std::string write_file(std::string description, const std::string& elements) {
    description.resize((description.size() + 10) / 64 * 64 + 64 - 10, ' ');
    std::string bytes("\x93NUMPY\x01\0", 8);
    bytes += static_cast<char>(description.size() & 0xff);
    bytes += static_cast<char>(description.size() >> 8);
    return write(bytes + description + elements);
  }

  std::vector<std::string> files() { return posix_file_system().list(folder_.path()); }

  testing::TemporaryDirectory folder_;
};

TEST_F(NpyTest, ReadsWhatNumpyWrites) {
  for (const char* name : {"npy/int32_matrix.npy", "npy/int64_matrix.npy", "npy/version2.npy"}) {
    SCOPED_TRACE(name);
    const NpyIntMatrix matrix = read(golden_path(name));
    EXPECT_EQ(matrix.rows, 2);
    EXPECT_EQ(matrix.columns, 3);
    EXPECT_EQ(matrix.values, kInts);
  }
  const NpyIntMatrix vector = read(golden_path("npy/int64_vector.npy"));
  EXPECT_EQ(vector.rows, 1);
  EXPECT_EQ(vector.columns, 3);
  EXPECT_EQ(vector.values, (std::vector<int32_t>{1, -2, 3}));
}

TEST_F(NpyTest, RefusesOtherArrays) {
  expect_error(ErrorCode::kUnsupported, "<f4", [] { read(golden_path("npy/float32_matrix.npy")); });
  expect_error(ErrorCode::kUnsupported, "Fortran",
               [] { read(golden_path("npy/fortran_matrix.npy")); });
  const std::string big("\0\0\0\x80\0\0\0\0", 8);  // 2^31
  expect_error(ErrorCode::kInvalidArgument, "2147483648 is not a token id", [&] {
    read(write_file("{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1), }", big));
  });
  expect_error(ErrorCode::kUnsupported, "0 dimensions", [&] {
    read(write_file("{'descr': '<i4', 'fortran_order': False, 'shape': (), }", "1234"));
  });
  expect_error(ErrorCode::kUnsupported, "3 dimensions", [&] {
    read(write_file("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1, 1), }", "1234"));
  });
}

TEST_F(NpyTest, RefusesForgedShapes) {
  for (const char* shape :
       {"(2, 1)", "(1,)", "(0, 0)", "(18446744073709551615, 18446744073709551615)",
        "(4294967296, 4294967296)", "(9223372036854775809, 2)", "(0, 9223372036854775807)"}) {
    SCOPED_TRACE(shape);
    const std::string elements =
        std::string(shape) == "(0, 9223372036854775807)" ? "" : "12345678abcd";
    expect_error(ErrorCode::kCorrupt, "x.npy", [&] {
      read(write_file(
          fmt::format("{{'descr': '<i4', 'fortran_order': False, 'shape': {}, }}", shape),
          elements));
    });
  }
}

TEST_F(NpyTest, RefusesForgedHeaders) {
  const std::string good = read_file(golden_path("npy/int32_matrix.npy"));
  for (size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error(ErrorCode::kCorrupt, "x.npy", [&] { read(write(good.substr(0, size))); });
  }
  expect_error(ErrorCode::kCorrupt, "x.npy", [&] { read(write(good + "x")); });
  std::string version = good;
  version[6] = 9;
  expect_error(ErrorCode::kUnsupported, "9.0", [&] { read(write(version)); });
  for (const char* text :
       {"", "{", "{}", "[]", "{'descr': '<i4'}",
        "{'descr': '<i4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<i4', 'descr': '<i4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i4, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), } x"}) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::kCorrupt, "x.npy", [&] { read(write_file(text, "1234")); });
  }
}

TEST_F(NpyTest, HeadersEqualNumpys) {
  using nlohmann::json;
  const json cases = json::parse(read_file(golden_path("npy/headers.json")));
  ASSERT_GE(cases.size(), 100u);
  for (const json& c : cases) {
    const NpyDType dtype = c["dtype"] == "<f4" ? NpyDType::kFloat32 : NpyDType::kInt32;
    const std::string header = npy_header(dtype, c["shape"].get<std::vector<int64_t>>());
    std::string hex;
    for (const char byte : header) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
    EXPECT_EQ(hex, c["header"].get<std::string>()) << c["shape"];
  }
}

TEST_F(NpyTest, WritesWhatNumpyWrites) {
  const std::string path = folder_ / "out.npy";
  NpyWriter ints(posix_file_system(), path, NpyDType::kInt32, {2, 3});
  ints.append(std::span(kInts).first(3));
  ints.append(std::span(kInts).subspan(3));
  EXPECT_FALSE(posix_file_system().exists(path));
  ints.commit();
  EXPECT_EQ(read_file(path), read_file(golden_path("npy/int32_matrix.npy")));

  std::vector<float> floats(24);
  std::iota(floats.begin(), floats.end(), 0.0f);
  NpyWriter cube(posix_file_system(), path, NpyDType::kFloat32, {2, 3, 4});
  cube.append(std::span<const float>(floats));
  cube.commit();
  EXPECT_EQ(read_file(path), read_file(golden_path("npy/float32_cube.npy")));
  EXPECT_EQ(files(), std::vector<std::string>{"out.npy"});
}

TEST_F(NpyTest, RowsInAnyOrderAndZerosBetween) {
  const std::string path = folder_ / "out.npy";
  NpyWriter writer(posix_file_system(), path, NpyDType::kFloat32, {4, 3, 2});
  const std::vector<float> a = {1, 2};
  const std::vector<float> b = {3, 4};
  writer.write_row(7, a);
  writer.write_row(2, b);
  writer.write_row(8, b);
  writer.commit();

  std::vector<float> expected(24);
  expected[14] = 1;
  expected[15] = 2;
  expected[4] = expected[16] = 3;
  expected[5] = expected[17] = 4;
  NpyWriter whole(posix_file_system(), folder_ / "whole.npy", NpyDType::kFloat32, {4, 3, 2});
  whole.append(std::span<const float>(expected));
  whole.commit();
  EXPECT_EQ(read_file(path), read_file(folder_ / "whole.npy"));
}

TEST_F(NpyTest, LeavesNothingHalfWritten) {
  {
    NpyWriter writer(posix_file_system(), folder_ / "out.npy", NpyDType::kInt32, {2, 3});
    writer.append(std::span(kInts).first(3));
  }
  EXPECT_TRUE(files().empty());
  testing::LimitedFileSystem full(130);
  {
    NpyWriter writer(full, folder_ / "out.npy", NpyDType::kInt32, {2, 3});
    expect_error(ErrorCode::kIo, "out.npy",
                 [&] { writer.append(std::span<const int32_t>(kInts)); });
  }
  EXPECT_TRUE(files().empty());
  testing::LimitedFileSystem no_header(10);
  expect_error(ErrorCode::kIo, "out.npy",
               [&] { NpyWriter(no_header, folder_ / "out.npy", NpyDType::kInt32, {2, 3}); });
  EXPECT_TRUE(files().empty());
}

TEST_F(NpyTest, RefusesShapesThatCannotBeWritten) {
  const auto create = [&](std::vector<int64_t> shape) {
    NpyWriter writer(posix_file_system(), folder_ / "out.npy", NpyDType::kInt32, std::move(shape));
  };
  expect_error(ErrorCode::kInvalidArgument, "shape", [&] { create({-1}); });
  expect_error(ErrorCode::kInvalidArgument, "shape", [&] { create({int64_t{1} << 40, 1 << 30}); });
  expect_error(ErrorCode::kInvalidArgument, "dimension", [&] { create({}); });
}

TEST_F(NpyTest, RowsThatDoNotFitAreABug) {
  NpyWriter writer(posix_file_system(), folder_ / "out.npy", NpyDType::kFloat32, {2, 2});
  const std::vector<float> row = {1, 2};
  EXPECT_THROW(writer.append(std::span<const float>(row).first(1)), Error);
  EXPECT_THROW(writer.write_row(2, row), Error);
  EXPECT_THROW(writer.append(std::span(kInts).first(2)), Error);
  writer.append(std::span<const float>(row));
  writer.append(std::span<const float>(row));
  EXPECT_THROW(writer.append(std::span<const float>(row)), Error);
}

}  // namespace
}  // namespace headrace
