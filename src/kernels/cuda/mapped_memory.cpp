#include "kernels/cuda/mapped_memory.h"

#include <algorithm>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/driver.h"

namespace headrace::cuda {
namespace {

constexpr size_t kGranuleBytes = size_t{64} << 20;

struct Driver {
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) unreserve = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
};

const Driver& driver() {
  static const Driver driver = [] {
    constexpr unsigned kVersion = 10020;  // that brought virtual memory management
    Driver found;
    const auto find = [](auto& function, const char* name) {
      if (find_driver_function(function, name, kVersion)) return;
      fail(ErrorCode::kDevice, "[cuda] the driver has no {}: install a newer one", name);
    };
    find(found.granularity, "cuMemGetAllocationGranularity");
    find(found.reserve, "cuMemAddressReserve");
    find(found.unreserve, "cuMemAddressFree");
    find(found.create, "cuMemCreate");
    find(found.release, "cuMemRelease");
    find(found.map, "cuMemMap");
    find(found.unmap, "cuMemUnmap");
    find(found.set_access, "cuMemSetAccess");
    return found;
  }();
  return driver;
}

CUmemAllocationProp properties_of(int device) {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
  return properties;
}

/// Maps new memory at [at, at + size_bytes). What is mapped needs no handle: it is given back when
/// it is unmapped.
bool map_granule(CUdeviceptr at, size_t size_bytes, const CUmemAllocationProp& properties) {
  CUmemGenericAllocationHandle memory = 0;
  if (driver().create(&memory, size_bytes, &properties, 0) != CUDA_SUCCESS) return false;
  const bool mapped = driver().map(at, size_bytes, 0, memory, 0) == CUDA_SUCCESS;
  driver().release(memory);
  if (!mapped) return false;
  const CUmemAccessDesc access = {.location = properties.location,
                                  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  if (driver().set_access(at, size_bytes, &access, 1) == CUDA_SUCCESS) return true;
  driver().unmap(at, size_bytes);
  return false;
}

/// Maps [at, at + size_bytes) granule by granule; nothing if that fails.
bool map_range(CUdeviceptr at, size_t size_bytes, size_t granule_bytes,
               const CUmemAllocationProp& properties) {
  for (size_t mapped = 0; mapped < size_bytes; mapped += granule_bytes) {
    if (map_granule(at + mapped, std::min(granule_bytes, size_bytes - mapped), properties)) {
      continue;
    }
    if (mapped > 0) driver().unmap(at, mapped);
    return false;
  }
  return true;
}

size_t rounded_up(size_t size_bytes, size_t granularity) {
  return (size_bytes + granularity - 1) / granularity * granularity;
}

std::byte* pointer(CUdeviceptr at) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver's addresses are integers
  return reinterpret_cast<std::byte*>(at);
}

/// Zeroes device memory, and waits for it.
void clear(std::byte* data, size_t size_bytes) {
  check(cudaMemset(data, 0, size_bytes), "clearing memory");
  check(cudaDeviceSynchronize(), "clearing memory");
}

/// Reserved addresses whose beginning is mapped.
class MappedRange : public GrowableMemory {
 public:
  MappedRange(CUdeviceptr at, size_t reserved_bytes, size_t granule_bytes,
              const CUmemAllocationProp& properties)
      : at_(at),
        reserved_bytes_(reserved_bytes),
        granule_bytes_(granule_bytes),
        properties_(properties) {}
  ~MappedRange() override {
    unmap_from(0);
    driver().unreserve(at_, reserved_bytes_);
  }

  std::byte* data() const override { return pointer(at_); }

  bool resize(size_t size_bytes) override {
    if (size_bytes > reserved_bytes_) return false;
    const size_t end = std::min(rounded_up(size_bytes, granule_bytes_), reserved_bytes_);
    if (end > mapped_bytes_) {
      if (!map_range(at_ + mapped_bytes_, end - mapped_bytes_, granule_bytes_, properties_)) {
        return false;
      }
      mapped_bytes_ = end;
    }
    if (!unmap_from(end)) return false;
    if (size_bytes > size_bytes_) clear(data() + size_bytes_, size_bytes - size_bytes_);
    size_bytes_ = size_bytes;
    return true;
  }

  size_t taken_bytes() const override { return mapped_bytes_; }

 private:
  /// False if the device refuses. REQUIRES: `begin` is the beginning of a granule.
  bool unmap_from(size_t begin) {
    if (begin >= mapped_bytes_) return true;
    cudaDeviceSynchronize();  // as cudaFree() does
    if (driver().unmap(at_ + begin, mapped_bytes_ - begin) != CUDA_SUCCESS) return false;
    mapped_bytes_ = begin;
    return true;
  }

  const CUdeviceptr at_;
  const size_t reserved_bytes_;
  const size_t granule_bytes_;
  const CUmemAllocationProp properties_;
  size_t mapped_bytes_ = 0;  // whole granules, or all that is reserved
  size_t size_bytes_ = 0;
};

/// Addresses of the device that nothing is mapped at yet.
struct Reservation {
  CUdeviceptr at = 0;
  size_t bytes = 0;        // what was asked for, in whole granules
  size_t granularity = 0;  // what mapped sizes are multiples of
};

/// Nothing if the device does not map, or the addresses are not there.
std::optional<Reservation> reserve_addresses(const CUmemAllocationProp& properties,
                                             size_t size_bytes) {
  Reservation made;
  if (driver().granularity(&made.granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) !=
      CUDA_SUCCESS) {
    return std::nullopt;
  }
  made.bytes = rounded_up(size_bytes, made.granularity);
  if (driver().reserve(&made.at, made.bytes, 0, 0, 0) != CUDA_SUCCESS) return std::nullopt;
  return made;
}

/// Where the device does not map: memory that is allocated once, as large as it is asked for first,
/// and kept.
class PlainMemory : public GrowableMemory {
 public:
  std::byte* data() const override { return buffer_.data(); }
  bool resize(size_t size_bytes) override {
    if (buffer_.data() == nullptr && size_bytes > 0) {
      std::optional<Buffer> buffer = allocate_plain(size_bytes);
      if (!buffer) return false;
      buffer_ = std::move(*buffer);
    }
    if (size_bytes > buffer_.size_bytes()) return false;
    if (size_bytes > size_bytes_) clear(buffer_.data() + size_bytes_, size_bytes - size_bytes_);
    size_bytes_ = size_bytes;
    return true;
  }
  size_t taken_bytes() const override { return buffer_.size_bytes(); }

 private:
  Buffer buffer_;
  size_t size_bytes_ = 0;
};

}  // namespace

std::optional<Buffer> allocate_plain(size_t size_bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, size_bytes) != cudaSuccess) {
    cudaGetLastError();
    return std::nullopt;
  }
  return Buffer(static_cast<std::byte*>(memory), size_bytes,
                [](std::byte* data, size_t /*size_bytes*/) { cudaFree(data); });
}

Buffer allocate_pinned(size_t size_bytes, const char* purpose) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, size_bytes) != cudaSuccess) {
    cudaGetLastError();
    fail(ErrorCode::kOutOfMemory,
         "[cuda] the system refuses to pin {} bytes of host memory for {}: raise the limit of "
         "locked memory (ulimit -l)",
         size_bytes, purpose);
  }
  return Buffer(static_cast<std::byte*>(memory), size_bytes,
                [](std::byte* data, size_t /*size_bytes*/) { cudaFreeHost(data); });
}

std::optional<Buffer> allocate_mapped(int device, size_t size_bytes) {
  const CUmemAllocationProp properties = properties_of(device);
  const std::optional<Reservation> made = reserve_addresses(properties, size_bytes);
  if (!made) return std::nullopt;
  if (!map_range(made->at, made->bytes, kGranuleBytes, properties)) {
    driver().unreserve(made->at, made->bytes);
    return std::nullopt;
  }
  return Buffer(pointer(made->at), made->bytes, [](std::byte* data, size_t size) {
    cudaDeviceSynchronize();  // as cudaFree() does
    driver().unmap(reinterpret_cast<CUdeviceptr>(data), size);
    driver().unreserve(reinterpret_cast<CUdeviceptr>(data), size);
  });
}

std::unique_ptr<GrowableMemory> reserve_growable(int device, size_t most_bytes) {
  constexpr size_t kGranules = 1000;
  const CUmemAllocationProp properties = properties_of(device);
  const auto made = reserve_addresses(properties, std::max<size_t>(most_bytes, 1));
  if (!made) return std::make_unique<PlainMemory>();
  const size_t granule_bytes = rounded_up(made->bytes / kGranules + 1, made->granularity);
  return std::make_unique<MappedRange>(made->at, made->bytes, granule_bytes, properties);
}

}  // namespace headrace::cuda
