#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/context.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "base/trace.h"

namespace headrace::bench {

/// The real surroundings of a benchmark: all processors, log on stderr, no progress, no trace.
struct Surroundings {
  SteadyClock clock;
  Trace trace{clock};
  ThreadPool pool{available_processors()};
  std::unique_ptr<Log> log = make_stderr_log(LogLevel::kInfo);
  std::unique_ptr<Progress> progress = make_null_progress();
  Context context{posix_file_system(), pool, *log, *progress, clock, trace};
};

/// Of at least one value.
inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace headrace::bench
