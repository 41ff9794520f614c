#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

namespace headrace::bench {

/// Enqueues a kernel that reads `bytes` bytes (a multiple of 16) of device memory and does nothing
/// else: what memory can give to kernels. `sink` is 4 bytes on the device.
void read_memory(const std::byte* memory, size_t bytes, unsigned* sink, int multiprocessors,
                 cudaStream_t stream);

}  // namespace headrace::bench
