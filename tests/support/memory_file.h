#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace headrace::testing {

/// A file that is nothing but bytes in memory. Immutable.
class MemoryFile : public RandomAccessFile {
 public:
  explicit MemoryFile(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}
  explicit MemoryFile(std::span<const std::byte> bytes) : bytes_(bytes.begin(), bytes.end()) {}

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return bytes_.size(); }
  void read(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      fail(ErrorCode::kCorrupt, "[file] {}: a read past the end", path_);
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }
  void will_need(uint64_t, uint64_t) const override {}

 private:
  const std::string path_ = "memory";
  const std::vector<std::byte> bytes_;
};

}  // namespace headrace::testing
