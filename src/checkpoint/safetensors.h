#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"

namespace headrace {

/// One tensor of a safetensors file.
struct TensorEntry {
  std::string name;
  std::string dtype_text;       // as the file says it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  uint64_t offset = 0;          // of its first byte in the file
  uint64_t size_bytes = 0;

  /// The element type; empty for those that weights do not come in.
  std::optional<DType> dtype() const;
  /// Product of the shape.
  int64_t elements() const;
};

/// A safetensors file, opened: an 8-byte little-endian header length, a JSON header, then the tensors'
/// bytes. The header has been checked: every tensor lies inside the file, has the bytes that its shape
/// and type need, and shares none with another. Immutable; thread-safe.
class SafetensorsReader {
 public:
  /// `fs` must outlive the reader. Error{kCorrupt} naming file and tensor for a header that does not
  /// hold.
  static SafetensorsReader open(FileSystem& fs, const std::string& path);

  const std::string& path() const { return file_->path(); }
  /// In the order of their bytes.
  const std::vector<TensorEntry>& entries() const { return entries_; }
  /// Null if there is none of that name.
  const TensorEntry* find(std::string_view name) const;
  /// Reads out.size() bytes of the tensor from `byte_offset` on.
  void read(const TensorEntry& entry, uint64_t byte_offset, std::span<std::byte> out) const;

 private:
  SafetensorsReader() = default;

  std::shared_ptr<const RandomAccessFile> file_;  // shared by copies of the reader
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string, size_t> by_name_;
};

/// Writes a safetensors file whose tensors are known beforehand; their bytes are appended in that
/// order, in pieces of any size. Confined to one thread.
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    DType dtype = DType::kFloat16;
    std::vector<int64_t> shape;
  };

  /// Writes the header to `file`, which must be empty and outlive the writer.
  SafetensorsWriter(WritableFile& file, const std::vector<Tensor>& tensors);

  void append(std::span<const std::byte> data) { file_.append(data); }
  /// Syncs. HR_CHECKs that exactly the declared bytes were appended.
  void finish();

 private:
  WritableFile& file_;
  uint64_t expected_bytes_ = 0;  // of the whole file
};

}  // namespace headrace
