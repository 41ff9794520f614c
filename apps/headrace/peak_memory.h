#pragma once

#include <cstdint>

namespace headrace::app {

/// Starts measuring this process's peak of resident memory anew, where the system allows it.
void reset_peak_memory();

/// The largest resident memory since the start or the last reset, in bytes; 0 if the system does
/// not say.
uint64_t peak_memory_bytes();

}  // namespace headrace::app
