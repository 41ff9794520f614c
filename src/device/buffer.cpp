#include "device/buffer.h"

#include <sys/mman.h>

#include "base/error.h"
#include "base/format.h"

namespace headrace {

Buffer allocate_host(size_t size_bytes, const char* purpose) {
  if (size_bytes == 0) return {};
  void* data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorCode::kOutOfMemory, "[memory] {} needs {}, which the system refuses", purpose,
         format_bytes(size_bytes));
  }
  constexpr size_t kHugePageBytes = size_t{2} << 20;
  if (size_bytes >= 4 * kHugePageBytes) ::madvise(data, size_bytes, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(data), size_bytes,
          [](std::byte* p, size_t bytes) { ::munmap(p, bytes); }};
}

}  // namespace headrace
