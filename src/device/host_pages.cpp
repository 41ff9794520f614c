#include "device/host_pages.h"

#include <sys/mman.h>

#include "base/error.h"
#include "base/format.h"

namespace headrace {

std::byte* map_host_pages(size_t size_bytes, int protection, const char* purpose) {
  void* const data =
      ::mmap(nullptr, size_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorCode::kOutOfMemory, "[memory] {} needs {}, which the system refuses", purpose,
         format_bytes(size_bytes));
  }
  return static_cast<std::byte*>(data);
}

void ask_for_huge_pages(std::byte* data, size_t size_bytes) {
  constexpr size_t kHugePageBytes = size_t{2} << 20;
  if (size_bytes >= 4 * kHugePageBytes) ::madvise(data, size_bytes, MADV_HUGEPAGE);
}

}  // namespace headrace
