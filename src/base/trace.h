#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace headrace {

class Clock;
class FileSystem;

/// A named integer of a span. A null name ends the list.
struct TraceArg {
  const char* name;
  uint64_t value;
};

constexpr size_t kMaxTraceArgs = 6;

/// One span of time. Names are not copied: they must outlive the trace (string literals).
struct TraceEvent {
  const char* name = "";
  const char* category = "";
  uint32_t track = 0;  // 0: the calling thread; otherwise what add_track() gave
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
  std::array<TraceArg, kMaxTraceArgs> args{};

  /// Adds a named integer; dropped when all places are taken.
  void add(const char* arg, uint64_t value);
};

/// Records what happened when, into memory set aside beforehand, and writes it as a Chrome trace
/// (chrome://tracing, ui.perfetto.dev). Disabled it records nothing and costs one load; enabled,
/// a span costs no lock and no allocation. When the memory is full further spans are counted and
/// dropped. Thread-safe.
class Trace {
 public:
  /// Spans that fit by default. Their memory is taken from the system as it fills.
  static constexpr size_t kDefaultCapacity = size_t{1} << 20;

  explicit Trace(const Clock& clock);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  /// Begins recording. Call once, before other threads use the trace.
  void enable(size_t capacity = kDefaultCapacity);
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }

  int64_t now_ns() const;
  void record(const TraceEvent& event);

  /// A row of its own in the picture, for spans that belong to no thread (reads in flight, say).
  uint32_t add_track(std::string_view name);
  /// Names the calling thread's row.
  void name_thread(std::string_view name);

  /// Spans recorded, and those for which there was no room.
  uint64_t recorded() const;
  uint64_t dropped() const;

  /// Writes everything recorded so far to `path`, which appears complete or not at all.
  void write(FileSystem& fs, const std::string& path) const;

 private:
  struct Record;
  struct FreeRecords {
    void operator()(Record* records) const;
  };

  const Clock& clock_;
  std::atomic<bool> enabled_{false};
  size_t capacity_ = 0;
  std::unique_ptr<Record, FreeRecords> records_;
  std::atomic<uint64_t> next_{0};
  mutable std::mutex names_mutex_;
  std::vector<std::pair<uint32_t, std::string>> track_names_;  // guarded by names_mutex_
  uint32_t added_tracks_ = 0;                                  // guarded by names_mutex_
};

/// A span from construction to destruction, on the calling thread's row.
class TraceSpan {
 public:
  TraceSpan(Trace& trace, const char* name, const char* category) : trace_(trace) {
    if (!trace.enabled()) return;
    event_.name = name;
    event_.category = category;
    event_.begin_ns = trace.now_ns();
    active_ = true;
  }
  ~TraceSpan() {
    if (!active_) return;
    event_.end_ns = trace_.now_ns();
    trace_.record(event_);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

  void set_bytes(uint64_t bytes) { event_.add("bytes", bytes); }
  void add(const char* name, uint64_t value) { event_.add(name, value); }

 private:
  Trace& trace_;
  TraceEvent event_;
  bool active_ = false;
};

}  // namespace headrace
