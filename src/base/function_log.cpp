#include "base/function_log.h"

#include <utility>

namespace headrace {

FunctionLog::FunctionLog(LogFunction function)
    : Log(LogLevel::kVerbose), function_(std::move(function)) {}

void FunctionLog::write(LogLevel level, std::string_view line) {
  if (!function_) return;
  const MutexLock lock(mutex_);
  function_(level, line);
}

}  // namespace headrace
