#pragma once

#include <cstddef>
#include <optional>

#include "device/buffer.h"

namespace headrace::cuda {

/// Device memory of `device` as a reserved range of addresses, mapped in granules of 64 MiB (CUDA's
/// virtual memory management), so that large blocks, the weight arena and the KV cache, take what
/// is free in pieces. The size is rounded up to the device's granularity, 2 MiB. Nothing if the
/// memory is not there, or the device does not map. Error{kDevice} if the driver is too old.
std::optional<Buffer> allocate_mapped(int device, size_t size_bytes);

}  // namespace headrace::cuda
