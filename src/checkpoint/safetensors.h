#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"

namespace headrace {

/// A tensor of a safetensors file.
struct TensorEntry {
  std::string name;
  std::string stored_type;     // as the file spells it: "BF16", "I64"
  std::optional<DType> dtype;  // empty: a type that weights here are not made of
  std::vector<int64_t> shape;  // none: a scalar
  uint64_t offset = 0;         // of the data, in the file
  uint64_t size_bytes = 0;

  /// Product of the shape.
  uint64_t elements() const;
};

/// The JSON header of a safetensors file, checked: every tensor's bytes are those of its shape and
/// type, no name comes twice, and together the tensors cover [data_begin, file_bytes) without
/// overlap or gap. Sorted by offset. Error{kCorrupt} naming `where` otherwise, {kUnsupported} for a
/// type that is not known.
std::vector<TensorEntry> parse_safetensors_header(std::string_view text, uint64_t data_begin,
                                                  uint64_t file_bytes, std::string_view where);

/// A safetensors file, open: the header is in memory, data is read on demand and never as a whole.
/// Immutable and thread-safe; movable.
class SafetensorsReader {
 public:
  /// Error{kCorrupt} for a file whose header contradicts itself or the file's size.
  static SafetensorsReader open(FileSystem& fs, const std::string& path);
  /// The same for a file that is open already.
  static SafetensorsReader read(std::unique_ptr<RandomAccessFile> file);

  const std::string& path() const { return file_->path(); }
  const RandomAccessFile& file() const { return *file_; }
  /// In the order of their data in the file.
  std::span<const TensorEntry> entries() const { return entries_; }
  /// Null if there is no such tensor. Valid as long as the reader lives where it is.
  const TensorEntry* find(std::string_view name) const;
  /// Fills `out` with the tensor's bytes from `byte_offset` on (little-endian, row-major).
  /// REQUIRES: the range lies inside the tensor, which is one of entries().
  void read(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const;

 private:
  SafetensorsReader() = default;

  std::unique_ptr<RandomAccessFile> file_;
  std::vector<TensorEntry> entries_;
  std::vector<uint32_t> by_name_;  // indices into entries_, sorted by name
};

}  // namespace headrace
