#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"

namespace headrace::bench {

/// 1e9 bytes/s at which all threads of the pool together read `memory`, each its own part, with
/// prefetches: the limit of anything that streams weights from memory. One pass over it.
double measure_read_gbps(ThreadPool& pool, std::span<const std::byte> memory);

/// 1e9 flop/s of independent float multiply-adds (two flop each) in the registers of all threads,
/// with the widest vectors that the processor has. Takes some 20 ms.
double measure_fma_gflops(ThreadPool& pool);

}  // namespace headrace::bench
