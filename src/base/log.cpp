#include "base/log.h"

#include <cstdio>
#include <mutex>
#include <string>

#include "base/error.h"

namespace headrace {
namespace {

const char* label(LogLevel level) {
  switch (level) {
    case LogLevel::kVerbose:
      return "VERBOSE";
    case LogLevel::kInfo:
      return "INFO";
    case LogLevel::kWarning:
      return "WARNING";
    case LogLevel::kError:
      return "ERROR";
  }
  return "";
}

class StderrLog : public Log {
 public:
  using Log::Log;

 protected:
  void write(LogLevel level, std::string_view line) override {
    const std::string text = fmt::format("[{}] {}\n", label(level), line);
    const std::lock_guard lock(mutex_);
    std::fwrite(text.data(), 1, text.size(), stderr);
  }

 private:
  std::mutex mutex_;
};

class NullLog : public Log {
 public:
  NullLog() : Log(LogLevel::kError) {}

 protected:
  void write(LogLevel, std::string_view) override {}
};

}  // namespace

LogLevel parse_log_level(std::string_view name) {
  if (name == "verbose") return LogLevel::kVerbose;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error" || name == "internal_error") return LogLevel::kError;
  fail(ErrorCode::kInvalidArgument,
       "[log] unknown level '{}': use verbose, info, warning, error or internal_error", name);
}

std::unique_ptr<Log> make_stderr_log(LogLevel level) { return std::make_unique<StderrLog>(level); }

std::unique_ptr<Log> make_null_log() { return std::make_unique<NullLog>(); }

}  // namespace headrace
