#include "base/trace.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"

namespace headrace {
namespace {

constexpr uint32_t kFirstAddedTrack = uint32_t{1} << 23;  // above every thread id of Linux
constexpr size_t kWriteBytes = size_t{1} << 20;

uint32_t thread_track() {
  thread_local const auto track = static_cast<uint32_t>(::syscall(SYS_gettid));
  return track;
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  out += '"';
}

void append_event(std::string& out, const TraceEvent& event, int64_t origin_ns) {
  const int64_t begin = event.begin_ns - origin_ns;
  const int64_t length = std::max<int64_t>(0, event.end_ns - event.begin_ns);
  out += "{\"ph\":\"X\",\"pid\":1,\"name\":";
  append_quoted(out, event.name);
  out += ",\"cat\":";
  append_quoted(out, event.category);
  fmt::format_to(std::back_inserter(out),
                 ",\"tid\":{},\"ts\":{}.{:03},\"dur\":{}.{:03},\"args\":{{", event.track,
                 begin / 1000, begin % 1000, length / 1000, length % 1000);
  bool first = true;
  for (const TraceArg& arg : event.args) {
    if (arg.name == nullptr) break;
    if (!first) out += ',';
    first = false;
    append_quoted(out, arg.name);
    fmt::format_to(std::back_inserter(out), ":{}", arg.value);
  }
  out += "}}";
}

}  // namespace

/// An event and whether its writer has finished. All zero bytes: nothing here yet.
struct Trace::Record {
  uint32_t complete;
  TraceEvent event;
};

void Trace::FreeRecords::operator()(Record* records) const { std::free(records); }

void TraceEvent::add(const char* arg, uint64_t value) {
  for (TraceArg& place : args) {
    if (place.name != nullptr) continue;
    place = {arg, value};
    return;
  }
}

Trace::Trace(const Clock& clock) : clock_(clock) {}
Trace::~Trace() = default;

void Trace::enable(size_t capacity) {
  HR_CHECK(!enabled() && capacity > 0);
  // calloc leaves pages untouched until they are written, so capacity costs nothing by itself.
  records_.reset(static_cast<Record*>(std::calloc(capacity, sizeof(Record))));
  if (records_ == nullptr) {
    fail(ErrorCode::kOutOfMemory, "[trace] no memory for {} spans: run without a trace", capacity);
  }
  capacity_ = capacity;
  enabled_.store(true);
}

int64_t Trace::now_ns() const { return clock_.now_ns(); }

void Trace::record(const TraceEvent& event) {
  if (!enabled()) return;
  const uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
  if (index >= capacity_) return;
  Record& place = records_.get()[index];
  new (&place.event) TraceEvent(event);
  if (event.track == 0) place.event.track = thread_track();
  std::atomic_ref(place.complete).store(1, std::memory_order_release);
}

uint32_t Trace::add_track(std::string_view name) {
  if (!enabled()) return 0;
  const std::lock_guard lock(names_mutex_);
  const uint32_t track = kFirstAddedTrack + added_tracks_++;
  track_names_.emplace_back(track, name);
  return track;
}

void Trace::name_thread(std::string_view name) {
  if (!enabled()) return;
  const std::lock_guard lock(names_mutex_);
  track_names_.emplace_back(thread_track(), name);
}

uint64_t Trace::recorded() const { return std::min<uint64_t>(next_.load(), capacity_); }
uint64_t Trace::dropped() const { return next_.load() - recorded(); }

void Trace::write(FileSystem& fs, const std::string& path) const {
  const uint64_t count = recorded();
  std::vector<const TraceEvent*> events;
  events.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    Record& place = records_.get()[i];
    if (std::atomic_ref(place.complete).load(std::memory_order_acquire) != 0) {
      events.push_back(&place.event);
    }
  }
  std::ranges::stable_sort(events, {}, [](const TraceEvent* e) { return e->begin_ns; });
  const int64_t origin_ns = events.empty() ? 0 : events.front()->begin_ns;

  write_file_atomically(fs, path, [&](WritableFile& file) {
    std::string out = fmt::format(
        "{{\"otherData\":{{\"spans\":{},\"dropped_spans\":{}}},\"traceEvents\":[\n"
        "{{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{{\"name\":\"headrace\"}}}}",
        events.size(), dropped());
    {
      const std::lock_guard lock(names_mutex_);
      for (const auto& [track, name] : track_names_) {
        fmt::format_to(std::back_inserter(out),
                       ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{},\"name\":\"thread_name\","
                       "\"args\":{{\"name\":",
                       track);
        append_quoted(out, name);
        out += "}}";
      }
    }
    for (const TraceEvent* event : events) {
      out += ",\n";
      append_event(out, *event, origin_ns);
      if (out.size() < kWriteBytes) continue;
      append_text(file, out);
      out.clear();
    }
    out += "\n]}\n";
    append_text(file, out);
  });
}

}  // namespace headrace
