#include "device/growable_memory.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "device/host_pages.h"

namespace headrace {
namespace {

size_t whole_pages(size_t size_bytes) {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (size_bytes + page - 1) / page * page;
}

/// Pages behind those that are backed are not accessible.
class HostRange : public GrowableMemory {
 public:
  HostRange(std::byte* data, size_t most_bytes) : data_(data), most_bytes_(most_bytes) {}
  ~HostRange() override { ::munmap(data_, most_bytes_); }

  std::byte* data() const override { return data_; }

  bool resize(size_t size_bytes) override {
    const size_t end = whole_pages(size_bytes);
    if (size_bytes > most_bytes_) return false;
    if (end > backed_bytes_ && !add(end - backed_bytes_)) return false;
    if (end < backed_bytes_ && !remove(backed_bytes_ - end)) return false;
    backed_bytes_ = end;
    if (size_bytes < size_bytes_) {  // the rest of the last page is zero if it is added again
      std::memset(data_ + size_bytes, 0, std::min(end, size_bytes_) - size_bytes);
    }
    size_bytes_ = size_bytes;
    return true;
  }

  size_t taken_bytes() const override {
    const size_t page = whole_pages(1);
    std::vector<unsigned char> states(backed_bytes_ / page);
    if (::mincore(data_, backed_bytes_, states.data()) != 0) return 0;
    return page * static_cast<size_t>(std::ranges::count_if(
                      states, [](unsigned char state) { return (state & 1) != 0; }));
  }

 private:
  bool add(size_t bytes) {
    std::byte* const from = data_ + backed_bytes_;
    if (::mprotect(from, bytes, PROT_READ | PROT_WRITE) != 0) return false;
    ask_for_huge_pages(from, bytes);
    return true;
  }
  bool remove(size_t bytes) {
    std::byte* const from = data_ + backed_bytes_ - bytes;
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return ::mmap(from, bytes, PROT_NONE, kFlags, -1, 0) != MAP_FAILED;
  }

  std::byte* const data_;
  const size_t most_bytes_;
  size_t backed_bytes_ = 0;  // whole pages
  size_t size_bytes_ = 0;
};

}  // namespace

std::unique_ptr<GrowableMemory> reserve_host(size_t most_bytes, const char* purpose) {
  const size_t bytes = std::max(whole_pages(most_bytes), whole_pages(1));
  return std::make_unique<HostRange>(map_host_pages(bytes, PROT_NONE, purpose), bytes);
}

}  // namespace headrace
