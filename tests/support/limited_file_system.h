#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"

namespace headrace::testing {

/// The real file system on a disk that fills up: after `limit_bytes` written in all, every append
/// fails as a full disk does. Confined to one thread. Its files must not outlive it.
class LimitedFileSystem : public FileSystem {
 public:
  explicit LimitedFileSystem(uint64_t limit_bytes) : left_(limit_bytes) {}

  std::unique_ptr<RandomAccessFile> open(const std::string& path) override {
    return real_.open(path);
  }
  std::unique_ptr<WritableFile> create(const std::string& path) override;
  bool exists(const std::string& path) override { return real_.exists(path); }
  bool is_directory(const std::string& path) override { return real_.is_directory(path); }
  std::vector<std::string> list(const std::string& path) override { return real_.list(path); }
  void create_directories(const std::string& path) override { real_.create_directories(path); }
  void rename(const std::string& from, const std::string& to) override { real_.rename(from, to); }
  void remove(const std::string& path) override { real_.remove(path); }
  void sync_directory(const std::string& path) override { real_.sync_directory(path); }

 private:
  FileSystem& real_ = posix_file_system();
  uint64_t left_;
};

}  // namespace headrace::testing
