#include "profile/measure.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "base/trace.h"
#include "profile/machine_name.h"
#include "profile/memory_feed.h"
#include "stream/engine_link.h"

namespace headrace {
namespace {

constexpr double kSeconds = 0.3;  // of each measurement of the backend
constexpr int kMostReads = 64;    // in flight
constexpr int64_t kMemoryK = 4096;

/// Products large enough for the caches and the parallelism of what is measured.
struct Workload {
  int64_t memory_bytes;  // of weights, read for one token row
  int64_t compute_rows;
  int64_t compute_k;
  int64_t compute_tokens;
};
constexpr Workload kHostWorkload = {int64_t{64} << 20, 512, 1024, 64};
constexpr Workload kDeviceWorkload = {int64_t{512} << 20, 4096, 4096, 2048};

// Every element is a normal number near 1 (fp16) or 0.01 (bf16, fp32), so that arithmetic runs at
// its usual speed.
constexpr int kPattern = 0x3c;

/// Repeats a product of [rows, k] weights with [tokens, k] inputs; returns the seconds of the
/// fastest, which other processes disturbed least.
double time_matmul(Backend& backend, DType dtype, int64_t rows, int64_t k, int64_t tokens,
                   const Clock& clock) {
  const size_t row_bytes = static_cast<size_t>(k) * dtype_size(dtype);
  const Buffer weights =
      backend.allocate(static_cast<size_t>(rows) * row_bytes + 64, "measurement of the machine");
  const Buffer x =
      backend.allocate(static_cast<size_t>(tokens) * row_bytes, "measurement of the machine");
  const Buffer out = backend.allocate(static_cast<size_t>(tokens * rows) * sizeof(float),
                                      "measurement of the machine");
  std::vector<std::byte> pattern(size_t{1} << 20, std::byte{kPattern});
  for (const Buffer* buffer : {&weights, &x}) {
    for (size_t at = 0; at < buffer->size_bytes(); at += pattern.size()) {
      const size_t size = std::min(pattern.size(), buffer->size_bytes() - at);
      backend.upload(buffer->data() + at, std::span(pattern).first(size));
    }
  }
  const std::array outputs = {MatrixOutput{.rows = rows, .out = out.floats(), .stride = rows}};
  const MatmulArgs args{.dtype = dtype,
                        .tokens = tokens,
                        .k = k,
                        .x = x.data(),
                        .x_stride_bytes = row_bytes,
                        .outputs = outputs};
  MemoryFeed feed(weights.data(), rows, row_bytes);
  const auto run = [&] {
    feed.rewind();
    backend.matmul(args, feed);
    backend.synchronize();
    return clock.now_ns();
  };
  int64_t now_ns = run();  // once to warm up
  const int64_t end_ns = now_ns + static_cast<int64_t>(kSeconds * 1e9);
  int64_t best_ns = std::numeric_limits<int64_t>::max();
  while (now_ns < end_ns) {
    const int64_t begin_ns = now_ns;
    now_ns = run();
    best_ns = std::min(best_ns, now_ns - begin_ns);
  }
  return static_cast<double>(std::max<int64_t>(best_ns, 1)) / 1e9;
}

/// 1e9 bytes/s with which the engine's weights arrive when nothing is done with them.
double measure_source(const Engine& engine, const StreamOptions& options, Context& context) {
  ReadMeasurement reading;
  const uint64_t memory_bytes = static_cast<uint64_t>(reading.depth) * reading.piece_bytes;
  const auto link = open_engine_link(engine, reading.depth, context.pool.size(), options);
  reading.depth = std::min(link->depth(), kMostReads);
  reading.piece_bytes = memory_bytes / static_cast<uint64_t>(reading.depth);
  return measure_link_gbps(*link, engine.file().size(), reading, context);
}

/// No rates though there are processors for host threads: measure_host() found too little memory.
/// There may be more the next time.
bool lacks_host_rates(const Backend& backend, const MachineProfile& profile) {
  return backend.has_own_memory() && available_processors() > 1 && profile.host_rates.empty();
}

}  // namespace

MachineProfile measure_machine(const Engine& engine, Backend& backend, const StreamOptions& options,
                               Context& context) {
  TraceSpan span(context.trace, "measure the machine", "profile");
  const DType dtype = engine.model().dtype;
  MachineProfile profile;
  profile.machine = machine_name(engine, backend);
  profile.threads = context.pool.size();
  profile.free_memory_bytes = available_memory_bytes();
  profile.link_gbps = backend.has_own_memory() ? measure_copy_gbps(backend, context.clock)
                                               : measure_source(engine, options, context);

  const Workload load = backend.has_own_memory() ? kDeviceWorkload : kHostWorkload;
  backend.reserve({.max_tokens = load.compute_tokens,
                   .max_k = kMemoryK,
                   .dtype = dtype,
                   .canonical_rows = engine.build().canonical_rows});
  const auto element = static_cast<int64_t>(dtype_size(dtype));
  const int64_t rows = load.memory_bytes / (kMemoryK * element);
  profile.memory_gbps = static_cast<double>(rows * kMemoryK * element) / 1e9 /
                        time_matmul(backend, dtype, rows, kMemoryK, 1, context.clock);
  profile.matmul_gflops =
      2e-9 * static_cast<double>(load.compute_rows * load.compute_k * load.compute_tokens) /
      time_matmul(backend, dtype, load.compute_rows, load.compute_k, load.compute_tokens,
                  context.clock);
  if (backend.has_own_memory()) measure_host(backend, dtype, context, profile);
  return profile;
}

MachineProfile load_or_measure_profile(const std::string& path, const Engine& engine,
                                       Backend& backend, const StreamOptions& options,
                                       Context& context) {
  if (!path.empty()) return parse_machine_profile(read_text_file(context.fs, path, 1 << 20), path);
  const std::string name = machine_name(engine, backend);
  const std::string cache = profile_cache_path(name);
  try {
    if (!cache.empty() && context.fs.exists(cache)) {
      const std::string text = read_text_file(context.fs, cache, 1 << 20);
      const MachineProfile profile = parse_machine_profile(text, cache);
      if (profile.machine == name) return profile;
    }
  } catch (const Error& error) {
    context.log.verbose("{}; measuring again", error.what());
  }
  const int64_t begin_ns = context.clock.now_ns();
  const MachineProfile profile = measure_machine(engine, backend, options, context);
  context.log.verbose("Measured {} in {:.1f} s: {} {:.2f} GB/s, memory {:.1f} GB/s, {:.1f} GFLOP/s",
                      name, static_cast<double>(context.clock.now_ns() - begin_ns) * 1e-9,
                      backend.has_own_memory() ? "link" : "disk", profile.link_gbps,
                      profile.memory_gbps, profile.matmul_gflops);
  if (lacks_host_rates(backend, profile)) {
    context.log.verbose(
        "too little memory is free to measure host threads; the profile is not cached");
    return profile;
  }
  try {
    if (!cache.empty()) {
      context.fs.create_directories(cache.substr(0, cache.rfind('/')));
      write_text_file(context.fs, cache, machine_profile_to_json(profile));
    }
  } catch (const Error& error) {
    context.log.verbose("{}; the profile is not cached", error.what());
  }
  return profile;
}

}  // namespace headrace
