#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"

namespace headrace {

/// A tensor that is going to be written.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kFloat16;
  std::vector<int64_t> shape;
};

/// Writes a safetensors file front to back: the header at once, then the tensors' bytes, in order
/// and in pieces of any size. Holds nothing. Confined to one thread. Borrows `file`.
class SafetensorsWriter {
 public:
  /// REQUIRES: `file` is empty; names are distinct UTF-8; dimensions are not negative and every
  /// product of them is below 2^60.
  SafetensorsWriter(WritableFile& file, std::span<const TensorToWrite> tensors);

  /// Bytes of all tensors together.
  uint64_t data_bytes() const { return data_bytes_; }
  /// The next bytes of the data. REQUIRES: no more than data_bytes() in all.
  void append(std::span<const std::byte> bytes);
  /// States that all bytes have been written. Does not sync the file.
  void finish() const;

 private:
  WritableFile& file_;
  uint64_t data_bytes_ = 0;
  uint64_t written_bytes_ = 0;
};

}  // namespace headrace
