#include "stream/direct_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "device/buffer.h"

namespace headrace {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr int kMostStalls = 1000;

/// 0, or the errno value with which the file system refuses to read past the page cache.
int probe_direct(int fd) {
  const Buffer page = allocate_host(kPageBytes, "probe of O_DIRECT");
  ssize_t got;
  do {
    got = ::pread(fd, page.data(), page.size_bytes(), 0);
  } while (got < 0 && errno == EINTR);
  return got < 0 ? errno : 0;
}

}  // namespace

DirectFile::DirectFile(const std::string& path, DirectMode mode) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC;
  int refused = 0;
  if (mode != DirectMode::kOff) {
    fd_ = ::open(path.c_str(), kFlags | O_DIRECT);
    refused = fd_ < 0 ? errno : probe_direct(fd_);
    direct_ = refused == 0;
    if (fd_ >= 0 && !direct_) ::close(fd_);
    if (!direct_) fd_ = -1;
  }
  if (!direct_) fd_ = ::open(path.c_str(), kFlags);
  if (fd_ < 0) fail_io("stream", "open", path, errno);
  struct stat info{};
  if (::fstat(fd_, &info) != 0 || (mode == DirectMode::kOn && !direct_)) {
    const int error = errno;
    ::close(fd_);
    if (mode != DirectMode::kOn || direct_) fail_io("stream", "examine", path, error);
    fail(ErrorCode::kInvalidArgument,
         "[stream] the file system of {} refuses O_DIRECT ({}): use --direct_io auto or off", path,
         std::strerror(refused));
  }
  size_ = static_cast<uint64_t>(info.st_size);
  description_ = direct_ ? "O_DIRECT" : "buffered";
  if (refused != 0) description_ += fmt::format(" (O_DIRECT refused: {})", std::strerror(refused));
}

DirectFile::~DirectFile() { ::close(fd_); }

ReadProgress::Next ReadProgress::advance(int64_t result, const DirectFile& file) {
  const bool again = result == -EINTR || result == -EAGAIN;
  if (result < 0 && !again) {
    error = static_cast<int>(-result);
    return Next::kFailed;
  }
  const uint64_t before = done;
  if (result > 0) done += static_cast<uint64_t>(result);
  if (done >= transfer.to.size() || transfer.offset + done >= file.size()) return Next::kDone;
  if (result == 0) {
    error = ENODATA;  // shorter than it was when it was opened
    return Next::kFailed;
  }
  if (file.direct()) done -= done % kPageBytes;  // O_DIRECT must go on from a whole page
  stalls = done > before ? 0 : stalls + 1;
  if (stalls < kMostStalls) return Next::kReadOn;
  error = again ? static_cast<int>(-result) : EIO;
  return Next::kFailed;
}

}  // namespace headrace
