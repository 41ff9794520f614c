#include "device/buffer.h"

#include <sys/mman.h>

#include "device/host_pages.h"

namespace headrace {

Buffer allocate_host(size_t size_bytes, const char* purpose) {
  if (size_bytes == 0) return {};
  std::byte* const data = map_host_pages(size_bytes, PROT_READ | PROT_WRITE, purpose);
  ask_for_huge_pages(data, size_bytes);
  return {data, size_bytes, [](std::byte* p, size_t bytes) { ::munmap(p, bytes); }};
}

}  // namespace headrace
