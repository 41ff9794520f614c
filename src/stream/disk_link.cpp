#include "stream/disk_link.h"

#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "base/error.h"
#include "stream/direct_file.h"
#include "stream/thread_link.h"
#include "stream/uring_link.h"

namespace headrace {
namespace {

int read_transfer(const DirectFile& file, const Transfer& transfer) {
  ReadProgress progress{.transfer = transfer};
  while (true) {
    const std::span<std::byte> rest = progress.rest();
    const ssize_t got =
        ::pread(file.fd(), rest.data(), rest.size(), static_cast<off_t>(progress.rest_offset()));
    switch (progress.advance(got < 0 ? -errno : got, file)) {
      case ReadProgress::Next::kDone:
        return 0;
      case ReadProgress::Next::kFailed:
        return progress.error;
      case ReadProgress::Next::kReadOn:
        break;
    }
  }
}

/// `why` goes into the description: "" or " (io_uring refused: ...)".
std::unique_ptr<Link> open_pread_link(const std::string& path, int depth, DirectMode mode,
                                      const std::string& why) {
  // Shared by the copies of the function, which std::function may make.
  const auto file = std::make_shared<const DirectFile>(path, mode);
  return std::make_unique<ThreadLink>(
      fmt::format("pread{}, {}", why, file->description()), depth, /*threads=*/depth,
      [file](const Transfer& transfer) { return read_transfer(*file, transfer); });
}

}  // namespace

std::unique_ptr<Link> open_disk_link(const std::string& path, int depth,
                                     const StreamOptions& options) {
  HR_CHECK(depth > 0);
  std::string why;
  if (options.io != IoMode::kPread) {
    int refused = 0;
    if (auto link = UringLink::open(path, depth, options.direct, refused)) return link;
    const char* const reason = std::strerror(refused);
    if (options.io == IoMode::kUring) {
      fail(ErrorCode::kInvalidArgument,
           "[stream] this system refuses io_uring ({}): use --io auto or pread", reason);
    }
    why = fmt::format(" (io_uring refused: {})", reason);
  }
  return open_pread_link(path, depth, options.direct, why);
}

}  // namespace headrace
