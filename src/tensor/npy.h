#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace headrace {

/// NumPy's .npy files, format 1.0 when written and 1.0 to 3.0 when read
/// (numpy.lib.format's documentation).

/// Element types that are written. Little-endian.
enum class NpyDType { kFloat32, kInt32 };

/// A matrix of token ids.
struct NpyIntMatrix {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<int32_t> values;  // [rows, columns]
};

/// Reads a matrix of int32 or int64, or a vector, which counts as one row. Error{kCorrupt} for a
/// file that is not one or whose size is not what its header says, {kUnsupported} for other types,
/// shapes and orders, {kInvalidArgument} for values outside int32.
NpyIntMatrix read_npy_int_matrix(FileSystem& fs, const std::string& path);

/// The bytes in front of the elements, as NumPy writes them for a C-ordered array of this shape.
std::string npy_header(NpyDType dtype, std::span<const int64_t> shape);

/// Writes an array row by row, a row being a run along the last dimension, without holding it in
/// memory. The file appears under its name, complete, at commit(); an object destroyed before
/// leaves nothing. Confined to one thread. `fs` must outlive it.
class NpyWriter {
 public:
  /// Error{kInvalidArgument} for a shape without dimensions, with a negative one, or of more than
  /// 2^62 bytes.
  NpyWriter(FileSystem& fs, const std::string& path, NpyDType dtype, std::vector<int64_t> shape);
  ~NpyWriter();
  NpyWriter(const NpyWriter&) = delete;
  NpyWriter& operator=(const NpyWriter&) = delete;

  /// Adds whole rows behind the last one written. REQUIRES: they fit, and are of the writer's type.
  void append(std::span<const float> values);
  void append(std::span<const int32_t> values);

  /// Writes row `row`, counted over all dimensions but the last; rows skipped so far become zeros.
  void write_row(int64_t row, std::span<const float> values);

  /// Fills what is missing with zeros, syncs the file and renames it into place. Call once, last.
  void commit();

 private:
  void append_bytes(std::span<const std::byte> bytes);
  void append_zeros(uint64_t end);
  void discard();

  FileSystem& fs_;
  const std::string path_;
  const std::string temporary_;
  const NpyDType dtype_;
  uint64_t header_bytes_ = 0;
  uint64_t row_bytes_ = 0;
  uint64_t total_bytes_ = 0;  // of the file
  std::unique_ptr<WritableFile> file_;
};

}  // namespace headrace
