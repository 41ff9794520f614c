#pragma once

#include <cstdint>
#include <string>

#include "stream/link.h"
#include "stream/stream_options.h"

namespace headrace {

/// A file open for the disk link, past the page cache if that works. Immutable; move-only by being
/// neither copied nor moved.
class DirectFile {
 public:
  /// Error{kIo} if it cannot be opened, {kInvalidArgument} if `mode` is kOn and O_DIRECT is
  /// refused.
  DirectFile(const std::string& path, DirectMode mode);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  int fd() const { return fd_; }
  bool direct() const { return direct_; }
  uint64_t size() const { return size_; }
  /// "O_DIRECT", "buffered" or "buffered (O_DIRECT refused: Invalid argument)".
  const std::string& description() const { return description_; }

 private:
  int fd_ = -1;
  bool direct_ = false;
  uint64_t size_ = 0;
  std::string description_;
};

/// How far a transfer has come: turns the results of read calls, which may be short, into what to
/// do next.
struct ReadProgress {
  enum class Next { kDone, kReadOn, kFailed };

  Transfer transfer;
  uint64_t done = 0;  // bytes that need no reading again
  int stalls = 0;     // results in a row that brought nothing
  int error = 0;      // after kFailed

  /// Takes what a read of the rest returned: bytes, or -errno. Bytes beyond the file's end count as
  /// read (they are padding of the last page).
  Next advance(int64_t result, const DirectFile& file);

  std::span<std::byte> rest() const { return transfer.to.subspan(done); }
  uint64_t rest_offset() const { return transfer.offset + done; }
};

}  // namespace headrace
