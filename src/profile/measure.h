#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/context.h"
#include "engine/engine_reader.h"
#include "kernels/backend.h"
#include "plan/machine_profile.h"
#include "stream/stream_options.h"

namespace headrace {

class Link;

/// How to read for measure_read_gbps() and measure_link_gbps().
struct ReadMeasurement {
  int depth = 8;                             // reads in flight
  uint64_t piece_bytes = uint64_t{8} << 20;  // of each read
  double seconds = 0.5;                      // at least; the reads in flight then are waited for
};

/// 1e9 bytes/s of a bare deep-queue read of a file, front to back and again, nothing else done with
/// the bytes: what streaming is compared with. 0 for a file shorter than 4096 bytes.
double measure_read_gbps(const std::string& path, const StreamOptions& options,
                         const ReadMeasurement& measurement, Context& context);

/// The same of what a link carries, `source_bytes` of it. REQUIRES: the link is idle and at least
/// as deep as the measurement; it is afterwards, too.
double measure_link_gbps(Link& link, uint64_t source_bytes, const ReadMeasurement& measurement,
                         Context& context);

/// 1e9 bytes/s of copies from pinned host memory into the memory of a backend that has its own.
double measure_copy_gbps(Backend& backend, const Clock& clock);

/// Measures what host threads multiply while the link of such a backend is busy, and what the link
/// carries meanwhile: host_rates, host_threads and shared_link_gbps. Nothing where there is a
/// single processor, or little memory.
void measure_host(Backend& backend, DType dtype, Context& context, MachineProfile& profile);

/// Measures the link (the disk that holds the engine's weights, what makes synthetic ones up, or
/// copies into the backend's own memory), memory and arithmetic; takes about 3 s, and 1 GiB of host
/// memory for measure_host(), which is given back.
MachineProfile measure_machine(const Engine& engine, Backend& backend, const StreamOptions& options,
                               Context& context);

/// The profile in file `path`; or, with an empty path, the one cached for this machine, engine disk
/// and backend under $XDG_CACHE_HOME/headrace or ~/.cache/headrace; or a new measurement, then
/// cached unless memory was lacking to measure host threads. A cache that cannot be read or written
/// is a verbose log line, never an error.
MachineProfile load_or_measure_profile(const std::string& path, const Engine& engine,
                                       Backend& backend, const StreamOptions& options,
                                       Context& context);

/// Bytes that this process could still allocate: MemAvailable, or what its memory cgroups leave if
/// that is less.
uint64_t available_memory_bytes();

}  // namespace headrace
