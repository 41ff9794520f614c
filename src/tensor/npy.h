#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace headrace {

/// A matrix of integers read from a .npy file, row-major.
struct NpyIntMatrix {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<int32_t> values;
};

/// Reads a one- or two-dimensional int32 or int64 array in NumPy's format 1.0, 2.0 or 3.0 (a vector is
/// one row). Error{kCorrupt} or {kUnsupported} naming the file for anything else, for values outside
/// int32 and for a header that does not match the file's size.
NpyIntMatrix read_npy_int_matrix(FileSystem& fs, const std::string& path);

enum class NpyDType { kFloat32, kInt32 };

/// Writes a C-order .npy file (format 1.0) whose shape is known beforehand, row by row or at any row,
/// in little memory. Rows never written are zero. The file appears under its name on commit() only;
/// an object destroyed before that leaves nothing. A row is the last dimension. Confined to one thread.
class NpyWriter {
 public:
  NpyWriter(FileSystem& fs, std::string path, NpyDType dtype, const std::vector<int64_t>& shape);
  ~NpyWriter();
  NpyWriter(const NpyWriter&) = delete;
  NpyWriter& operator=(const NpyWriter&) = delete;

  /// Writes the row after the one written last (the first, at first).
  void append(std::span<const float> row) { write_bytes(next_row_, std::as_bytes(row)); }
  void append(std::span<const int32_t> row) { write_bytes(next_row_, std::as_bytes(row)); }
  void write_row(int64_t index, std::span<const float> row) {
    write_bytes(index, std::as_bytes(row));
  }
  void commit();

 private:
  void write_bytes(int64_t row, std::span<const std::byte> data);
  void fill_to(uint64_t end);

  FileSystem& fs_;
  const std::string path_;
  const std::string temporary_;
  std::unique_ptr<WritableFile> file_;
  uint64_t header_bytes_ = 0;
  uint64_t row_bytes_ = 0;
  int64_t rows_ = 0;
  int64_t next_row_ = 0;
  bool committed_ = false;
};

}  // namespace headrace
