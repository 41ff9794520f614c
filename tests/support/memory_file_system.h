#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "tests/support/memory_file.h"

namespace headrace::testing {

/// Files that are texts in memory, by path, for reading only. Immutable.
class MemoryFileSystem : public FileSystem {
 public:
  explicit MemoryFileSystem(std::map<std::string, std::string> files) : files_(std::move(files)) {}

  std::unique_ptr<RandomAccessFile> open(const std::string& path) override {
    const auto found = files_.find(path);
    if (found == files_.end()) fail(ErrorCode::kNotFound, "[file] {}: no such file", path);
    return std::make_unique<MemoryFile>(std::as_bytes(std::span(found->second)));
  }
  bool exists(const std::string& path) override { return files_.contains(path); }
  bool is_directory(const std::string&) override { return false; }
  std::vector<std::string> list(const std::string&) override { return {}; }

  std::unique_ptr<WritableFile> create(const std::string& path) override { refuse(path); }
  void create_directories(const std::string& path) override { refuse(path); }
  void rename(const std::string& from, const std::string&) override { refuse(from); }
  void remove(const std::string& path) override { refuse(path); }
  void sync_directory(const std::string& path) override { refuse(path); }

 private:
  [[noreturn]] static void refuse(const std::string& path) {
    fail(ErrorCode::kIo, "[file] {}: this file system is for reading only", path);
  }

  const std::map<std::string, std::string> files_;
};

}  // namespace headrace::testing
