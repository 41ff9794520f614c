#pragma once

#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/weights.h"
#include "tensor/dtype.h"

namespace headrace {

/// Decodes the rows of a coded run in host memory: row r, of k elements, goes to out + r *
/// out_stride_bytes. What pads a row there is left as it is.
void decode_rows(const WeightRun& run, DType dtype, int64_t k, std::byte* out,
                 size_t out_stride_bytes, ThreadPool& pool);

}  // namespace headrace
