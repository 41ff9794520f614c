#include "kernels/cuda/mapped_memory.h"

#include <algorithm>

#include <cuda.h>

#include "kernels/cuda/cuda_check.h"

namespace headrace::cuda {
namespace {

constexpr size_t kGranuleBytes = size_t{64} << 20;

/// Functions of the driver, which is not linked: the library also loads where there is none.
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

template <typename Function>
void find(Function& function, const char* name) {
  constexpr unsigned kVersion = 10020;  // that brought virtual memory management
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
  check(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &status),
        "asking for the driver's functions");
  if (status != cudaDriverEntryPointSuccess) {
    fail(ErrorCode::kDevice, "[cuda] the driver has no {}: install a newer one", name);
  }
  function = reinterpret_cast<Function>(found);
}

const Driver& driver() {
  static const Driver driver = [] {
    Driver found;
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

/// `reserved_bytes` of which the first `mapped_bytes` are mapped.
void free_range(CUdeviceptr at, size_t mapped_bytes, size_t reserved_bytes) {
  if (mapped_bytes > 0) driver().unmap(at, mapped_bytes);
  driver().unreserve(at, reserved_bytes);
}

}  // namespace

std::optional<Buffer> allocate_mapped(int device, size_t size_bytes) {
  const CUmemAllocationProp properties = properties_of(device);
  size_t granularity = 0;
  if (driver().granularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) !=
      CUDA_SUCCESS) {
    return std::nullopt;
  }
  const size_t bytes = (size_bytes + granularity - 1) / granularity * granularity;
  CUdeviceptr at = 0;
  if (driver().reserve(&at, bytes, 0, 0, 0) != CUDA_SUCCESS) return std::nullopt;
  for (size_t mapped = 0; mapped < bytes; mapped += kGranuleBytes) {
    if (!map_granule(at + mapped, std::min(kGranuleBytes, bytes - mapped), properties)) {
      free_range(at, mapped, bytes);
      return std::nullopt;
    }
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the driver's addresses are integers
  return Buffer(reinterpret_cast<std::byte*>(at), bytes, [](std::byte* data, size_t size) {
    cudaDeviceSynchronize();  // as cudaFree() does
    free_range(reinterpret_cast<CUdeviceptr>(data), size, size);
  });
}

}  // namespace headrace::cuda
