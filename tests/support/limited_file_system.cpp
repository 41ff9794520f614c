#include "tests/support/limited_file_system.h"

#include <cerrno>

#include "base/error.h"

namespace headrace::testing {
namespace {

class LimitedFile : public WritableFile {
 public:
  LimitedFile(std::unique_ptr<WritableFile> real, uint64_t& left)
      : real_(std::move(real)), left_(left) {}

  const std::string& path() const override { return real_->path(); }
  uint64_t size() const override { return real_->size(); }
  void append(std::span<const std::byte> data) override {
    if (data.size() > left_) fail_io("file", "write", path(), ENOSPC);
    left_ -= data.size();
    real_->append(data);
  }
  void write_at(uint64_t offset, std::span<const std::byte> data) override {
    real_->write_at(offset, data);
  }
  void sync() override { real_->sync(); }

 private:
  std::unique_ptr<WritableFile> real_;
  uint64_t& left_;
};

}  // namespace

std::unique_ptr<WritableFile> LimitedFileSystem::create(const std::string& path) {
  return std::make_unique<LimitedFile>(real_.create(path), left_);
}

}  // namespace headrace::testing
