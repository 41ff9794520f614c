#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "headrace/log_level.h"

namespace headrace {

/// Parses verbose, info, warning, error or internal_error (the same as error); anything else is an
/// Error{kInvalidArgument} that lists them.
LogLevel parse_log_level(std::string_view name);

/// Where a room reports what it does. Thread-safe. A library never prints on its own: whoever
/// starts it passes the log.
class Log {
 public:
  explicit Log(LogLevel level) : level_(level) {}
  virtual ~Log() = default;

  LogLevel level() const { return level_; }
  bool enabled(LogLevel level) const { return level >= level_; }

  template <typename... Args>
  void verbose(fmt::format_string<Args...> format, Args&&... args) {
    write_if(LogLevel::kVerbose, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    write_if(LogLevel::kInfo, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) {
    write_if(LogLevel::kWarning, format, std::forward<Args>(args)...);
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) {
    write_if(LogLevel::kError, format, std::forward<Args>(args)...);
  }

 protected:
  virtual void write(LogLevel level, std::string_view line) = 0;

 private:
  template <typename... Args>
  void write_if(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    if (enabled(level)) {
      write(level, fmt::format(format, std::forward<Args>(args)...));
    }
  }

  LogLevel level_;
};

/// Writes "[INFO] line" to standard error.
std::unique_ptr<Log> make_stderr_log(LogLevel level);

/// Drops everything; for tests and for callers that do not care.
std::unique_ptr<Log> make_null_log();

}  // namespace headrace
