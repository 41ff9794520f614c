#include "stream/disk_link.h"

#include <cstring>

#include "base/error.h"
#include "stream/pread_link.h"
#include "stream/uring_link.h"

namespace headrace {

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
  return std::make_unique<PreadLink>(path, depth, options.direct, why);
}

}  // namespace headrace
