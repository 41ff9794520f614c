#pragma once

#include <string_view>

#include "base/log.h"
#include "base/mutex.h"
#include "headrace/executor_options.h"

namespace headrace {

/// Hands lines to a function of the caller's, one at a time; without one they are dropped.
/// Thread-safe.
class FunctionLog : public Log {
 public:
  explicit FunctionLog(LogFunction function);

 protected:
  void write(LogLevel level, std::string_view line) override;

 private:
  Mutex mutex_;
  const LogFunction function_;
};

}  // namespace headrace
