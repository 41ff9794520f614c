#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "device/buffer.h"
#include "device/growable_memory.h"

namespace headrace::cuda {

/// Memory of the current device by cudaMalloc(). Nothing if it is not there.
std::optional<Buffer> allocate_plain(size_t size_bytes);

/// Pinned host memory, which kernels write to as well. Error{kOutOfMemory}.
Buffer allocate_pinned(size_t size_bytes, const char* purpose);

/// Device memory of `device` as a reserved range of addresses, mapped in granules (CUDA's virtual
/// memory management), so that large blocks, such as the weight arena, take what is free in pieces.
/// The size is rounded up to the device's granularity, 2 MiB. Nothing if the memory is not there,
/// or the device does not map. Error{kDevice} if the driver is too old.
std::optional<Buffer> allocate_mapped(int device, size_t size_bytes);

/// The same as a range that grows and shrinks, for the KV cache; empty at first. It takes up to a
/// thousandth of `most_bytes` and 2 MiB more than it is asked for. Where the device does not map,
/// it stays as large as it is asked to be first.
std::unique_ptr<GrowableMemory> reserve_growable(int device, size_t most_bytes);

}  // namespace headrace::cuda
