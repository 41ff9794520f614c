#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/file.h"
#include "checkpoint/quant_blocks.h"

namespace headrace {

/// A metadata value of a GGUF file. All integers become int64_t, all fractions double, arrays hold
/// one kind of element. Arrays of arrays are not supported.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<bool>, std::vector<std::string>>;

/// A tensor of a GGUF file. Rows lie one behind the other; a row is a whole number of blocks.
struct GgufTensor {
  std::string name;
  QuantType type = QuantType::kF32;
  std::vector<int64_t> shape;  // the last dimension is contiguous (GGUF's order reversed)
  uint64_t offset = 0;         // of the data, from the start of the file
  uint64_t size_bytes = 0;

  /// Elements of one row: the last dimension.
  int64_t row_elements() const { return shape.back(); }
  /// Rows: the product of the other dimensions.
  int64_t rows() const;
  uint64_t row_bytes() const;
};

/// Reads GGUF files, versions 2 and 3, little-endian (the layout is described in the ggml project's
/// docs/gguf.md). Everything in front of the data is checked when the file is opened: counts and
/// sizes against the file's length, keys and names that occur twice, tensors that overlap. Texts
/// are as the file has them: is_utf8 tells whether they are UTF-8. Immutable, so thread-safe.
class GgufFile {
 public:
  /// Error{kCorrupt} for a file that is not well-formed, {kUnsupported} for versions and tensor
  /// types that cannot be read here.
  static GgufFile open(FileSystem& fs, const std::string& path);
  /// The same for a file that is open already.
  static GgufFile read(std::unique_ptr<RandomAccessFile> file);

  const std::string& path() const { return file_->path(); }
  uint64_t file_bytes() const { return file_->size(); }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  /// In the order of the file's list.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// Null if there is no such tensor. Lives as long as the file.
  const GgufTensor* find(std::string_view name) const;

  /// Metadata of a given type; null if there is none under `key`. Error{kCorrupt} naming the key if
  /// it is of another type (an integer counts as a double where one is asked for).
  const int64_t* find_integer(std::string_view key) const;
  const std::string* find_text(std::string_view key) const;
  const bool* find_boolean(std::string_view key) const;
  const std::vector<std::string>* find_texts(std::string_view key) const;
  const std::vector<int64_t>* find_integers(std::string_view key) const;
  /// The number under `key`, or `otherwise`.
  double number(std::string_view key, double otherwise) const;
  /// The integer under `key`. Error{kCorrupt} if there is none.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t otherwise) const;

  /// Fills `out` with the tensor's stored bytes from `byte_offset`. REQUIRES: they lie inside it.
  void read(const GgufTensor& tensor, uint64_t byte_offset, std::span<std::byte> out) const;

 private:
  explicit GgufFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}
  uint64_t alignment() const;
  void check_tensors(uint64_t data_begin);
  template <typename T>
  const T* find_value(std::string_view key, const char* kind) const;

  std::unique_ptr<RandomAccessFile> file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace headrace
