#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headrace {

/// A file open for reading at any offset. Thread-safe.
class RandomAccessFile {
 public:
  virtual ~RandomAccessFile() = default;
  virtual const std::string& path() const = 0;
  virtual uint64_t size() const = 0;
  /// Fills `out` from `offset`. A read past the end is Error{kCorrupt}, a failed one Error{kIo}.
  virtual void read(uint64_t offset, std::span<std::byte> out) const = 0;
  /// Tells the system that this range will be read soon. May do nothing.
  virtual void will_need(uint64_t offset, uint64_t length) const = 0;
  /// Tells the system that reads will be small and scattered, so that it reads nothing besides. May
  /// do nothing.
  virtual void expect_random_reads() const {}
};

/// A file open for writing. Confined to one thread. Not synced until sync() returns.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual const std::string& path() const = 0;
  /// Bytes appended so far, also the offset of the next append.
  virtual uint64_t size() const = 0;
  virtual void append(std::span<const std::byte> data) = 0;
  /// Overwrites bytes that were appended before (to fill in a header, say).
  virtual void write_at(uint64_t offset, std::span<const std::byte> data) = 0;
  /// Flushes to the device (fsync). Call once, last.
  virtual void sync() = 0;
};

/// Held while it lives. It ends with its process, and knows no containers.
class FolderLock {
 public:
  virtual ~FolderLock() = default;
};

/// The outside world of files: an interface so that tests can break it. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual std::unique_ptr<RandomAccessFile> open(const std::string& path) = 0;
  /// Creates or truncates.
  virtual std::unique_ptr<WritableFile> create(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual bool is_directory(const std::string& path) = 0;
  /// Names (not paths) in a folder, sorted.
  virtual std::vector<std::string> list(const std::string& path) = 0;
  virtual void create_directories(const std::string& path) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
  /// Removes a file, or an empty folder; nothing there is fine.
  virtual void remove(const std::string& path) = 0;
  /// `path` without the symbolic links that it goes through, if something is there.
  virtual std::string resolved(const std::string& path) { return path; }
  /// Whether a device, a pipe or a socket is there: it is written to, and never replaced.
  virtual bool is_special(const std::string& /*path*/) { return false; }
  /// Null if somebody holds it, or there can be none: of a file, a link, where locks are unknown.
  virtual std::unique_ptr<FolderLock> lock_folder(const std::string& /*path*/) { return nullptr; }
  /// Makes renames inside this folder durable.
  virtual void sync_directory(const std::string& path) = 0;
};

/// The real thing. The object lives as long as the program.
FileSystem& posix_file_system();

/// Whole content of a file, at most `limit_bytes` (more is Error{kInvalidArgument}).
std::string read_text_file(FileSystem& fs, const std::string& path,
                           uint64_t limit_bytes = uint64_t{1} << 30);

void append_text(WritableFile& file, std::string_view text);

/// Calls `fill` with a temporary file beside `path`, syncs it and renames it to `path`: either the
/// whole new content is there afterwards, or the old one still is. A symbolic link stays, and what
/// it leads to is replaced; devices and pipes are written to.
void write_file_atomically(FileSystem& fs, const std::string& path,
                           const std::function<void(WritableFile&)>& fill);

/// The same for a small text.
void write_text_file(FileSystem& fs, const std::string& path, std::string_view text);

/// `directory` and `name` with one slash between them.
std::string join_path(std::string_view directory, std::string_view name);

/// Last component of a path.
std::string file_name(std::string_view path);

}  // namespace headrace
