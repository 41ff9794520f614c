#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_kernels.h"

namespace headrace::cpu {

/// Backend::rope_and_store for the token rows [begin, end) of the pass. Rows may be done by
/// different threads at once.
void rope_and_store_rows(const CpuKernels& kernels, const RopeStoreArgs& args, int64_t begin,
                         int64_t end);

}  // namespace headrace::cpu
