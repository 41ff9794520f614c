#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/context.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"

namespace headrace::testing {

/// Keeps what is logged, for tests to look at. Thread-safe.
class MemoryLog : public Log {
 public:
  MemoryLog() : Log(LogLevel::kVerbose) {}

  /// All lines that contain `part`.
  std::vector<std::string> lines_with(std::string_view part) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> found;
    for (const std::string& line : lines_) {
      if (line.find(part) != std::string::npos) found.push_back(line);
    }
    return found;
  }

 protected:
  void write(LogLevel, std::string_view line) override {
    const std::lock_guard lock(mutex_);
    lines_.emplace_back(line);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

/// A Context over the real file system (or one given) with a log in memory and no progress shown.
struct TestContext {
  explicit TestContext(int threads = 1, FileSystem& fs = posix_file_system())
      : pool(threads), context{fs, pool, log, *progress, clock, trace} {}

  SteadyClock clock;
  Trace trace{clock};
  ThreadPool pool;
  MemoryLog log;
  std::unique_ptr<Progress> progress = make_null_progress();
  Context context;
};

}  // namespace headrace::testing
