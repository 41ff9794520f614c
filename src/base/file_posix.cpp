#include <algorithm>
#include <cerrno>
#include <filesystem>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace headrace {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

class PosixRandomAccessFile : public RandomAccessFile {
 public:
  PosixRandomAccessFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }

  void read(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > size_ || out.size() > size_ - offset) {
      fail(ErrorCode::kCorrupt,
           "[file] {} ends at byte {}, bytes {} to {} were asked for: truncated?", path_, size_,
           offset, offset + out.size());
    }
    while (!out.empty()) {
      const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_io("file", "read", path_, errno);
      if (got == 0) fail(ErrorCode::kCorrupt, "[file] {} became shorter while it was read", path_);
      out = out.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
    }
  }

  void will_need(uint64_t offset, uint64_t length) const override {
    ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                    POSIX_FADV_WILLNEED);
  }

  void expect_random_reads() const override { ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_RANDOM); }

 private:
  std::string path_;
  Descriptor fd_;
  uint64_t size_;
};

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string& path() const override { return path_; }
  uint64_t size() const override { return size_; }

  void append(std::span<const std::byte> data) override {
    write_bytes(size_, data);
    size_ += data.size();
  }

  void write_at(uint64_t offset, std::span<const std::byte> data) override {
    HR_CHECK(offset <= size_ && data.size() <= size_ - offset);
    write_bytes(offset, data);
  }

  void sync() override {
    if (::fsync(fd_.get()) != 0) fail_io("file", "sync", path_, errno);
  }

 private:
  void write_bytes(uint64_t offset, std::span<const std::byte> data) {
    while (!data.empty()) {
      ssize_t put = ::pwrite(fd_.get(), data.data(), data.size(), static_cast<off_t>(offset));
      // A pipe has no offsets: what is appended can go there all the same.
      if (put < 0 && errno == ESPIPE && offset >= size_) {
        put = ::write(fd_.get(), data.data(), data.size());
      }
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail_io("file", "write", path_, errno);
      data = data.subspan(static_cast<size_t>(put));
      offset += static_cast<uint64_t>(put);
    }
  }

  std::string path_;
  Descriptor fd_;
  uint64_t size_ = 0;
};

class PosixFolderLock : public FolderLock {
 public:
  explicit PosixFolderLock(int fd) : fd_(fd) {}
  bool take() const { return ::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0; }

 private:
  Descriptor fd_;
};

class PosixFileSystem : public FileSystem {
 public:
  std::unique_ptr<RandomAccessFile> open(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) fail_io("file", "open", path, errno);
    struct stat info{};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
      ::close(fd);
      fail(ErrorCode::kInvalidArgument, "[file] {} is not a regular file", path);
    }
    return std::make_unique<PosixRandomAccessFile>(path, fd, static_cast<uint64_t>(info.st_size));
  }

  std::unique_ptr<WritableFile> create(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) fail_io("file", "create", path, errno);
    return std::make_unique<PosixWritableFile>(path, fd);
  }

  bool exists(const std::string& path) override {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0;
  }

  bool is_directory(const std::string& path) override {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  }

  std::vector<std::string> list(const std::string& path) override {
    std::error_code error;
    std::vector<std::string> names;
    std::filesystem::directory_iterator entries(path, error);
    if (error) fail_io("file", "list", path, error.value());
    for (const auto& entry : entries) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  void create_directories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) fail_io("file", "create folder", path, error.value());
    if (!is_directory(path)) fail_io("file", "create folder", path, ENOTDIR);
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail_io("file", "rename to", to, errno);
  }

  void remove(const std::string& path) override {
    if (::remove(path.c_str()) != 0 && errno != ENOENT) fail_io("file", "remove", path, errno);
  }

  std::string resolved(const std::string& path) override {
    std::error_code error;
    const auto target = std::filesystem::canonical(path, error);
    return error ? path : target.string();
  }

  bool is_special(const std::string& path) override {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
  }

  std::unique_ptr<FolderLock> lock_folder(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return nullptr;
    auto lock = std::make_unique<PosixFolderLock>(fd);
    if (!lock->take()) return nullptr;
    return lock;
  }

  void sync_directory(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) fail_io("file", "open", path, errno);
    const Descriptor folder(fd);
    if (::fsync(fd) != 0 && errno != EINVAL) fail_io("file", "sync", path, errno);
  }
};

}  // namespace

FileSystem& posix_file_system() {
  static PosixFileSystem file_system;
  return file_system;
}

}  // namespace headrace
