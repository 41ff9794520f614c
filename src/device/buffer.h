#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace headrace {

/// Owns a block of memory that a backend computes in ("fast memory"). On the CPU backend `data` can
/// be read and written by the host; on others only the backend may touch it. Move-only; returned to
/// its allocator on destruction.
class Buffer {
 public:
  using Deleter = void (*)(std::byte* data, size_t size_bytes);

  Buffer() = default;
  Buffer(std::byte* data, size_t size_bytes, Deleter deleter)
      : data_(data), size_bytes_(size_bytes), deleter_(deleter) {}
  ~Buffer() { reset(); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      reset();
      swap(other);
    }
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  std::span<std::byte> bytes() const { return {data_, size_bytes_}; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  void reset() {
    if (data_ != nullptr) deleter_(data_, size_bytes_);
    data_ = nullptr;
    size_bytes_ = 0;
  }
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(deleter_, other.deleter_);
  }

  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  Deleter deleter_ = nullptr;
};

/// Page-aligned host memory, zeroed, whose pages are taken from the system when they are first
/// touched (so an untouched tail costs nothing). Huge pages are asked for. Zero bytes give an empty
/// Buffer; failure is Error{kOutOfMemory} naming `purpose`.
Buffer allocate_host(size_t size_bytes, const char* purpose);

}  // namespace headrace
