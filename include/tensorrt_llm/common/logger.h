#pragma once

#include <atomic>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>

#include "tensorrt_llm/common/assert.h"
#include "tensorrt_llm/common/stringUtils.h"

namespace tensorrt_llm::common {

/// The program's log: what clients and the engine say, one line a message, to stdout (to stderr
/// where the level is WARNING or ERROR). The level is INFO, or what the environment's
/// TLLM_LOG_LEVEL names. Thread-safe. It is a global because clients expect one.
class Logger {
 public:
  enum Level { TRACE = 0, DEBUG = 10, INFO = 20, WARNING = 30, ERROR = 40 };

  static Logger* getLogger();

  Logger(Logger const&) = delete;
  Logger& operator=(Logger const&) = delete;

  /// A printf format and its values; without values the text is written as it is.
  template <typename... Args>
  void log(Level level, char const* format, Args const&... args) {
    if (!isEnabled(level)) return;
    if constexpr (sizeof...(args) == 0) {
      write(level, format);
    } else {
      write(level, fmtstr(format, args...));
    }
  }
  template <typename... Args>
  void log(Level level, std::string const& format, Args const&... args) {
    log(level, format.c_str(), args...);
  }
  void log(std::exception const& error, Level level = ERROR) { log(level, error.what()); }

  Level getLevel() const { return level_; }
  void setLevel(Level level) { level_ = level; }
  bool isEnabled(Level level) const { return level_ <= level; }

 private:
  Logger();
  void write(Level level, std::string const& message);

  std::atomic<Level> level_;
  std::mutex mutex_;  // of the streams
};

}  // namespace tensorrt_llm::common

#define TLLM_LOG(level, ...) ::tensorrt_llm::common::Logger::getLogger()->log(level, __VA_ARGS__)
#define TLLM_LOG_TRACE(...) TLLM_LOG(::tensorrt_llm::common::Logger::TRACE, __VA_ARGS__)
#define TLLM_LOG_DEBUG(...) TLLM_LOG(::tensorrt_llm::common::Logger::DEBUG, __VA_ARGS__)
#define TLLM_LOG_INFO(...) TLLM_LOG(::tensorrt_llm::common::Logger::INFO, __VA_ARGS__)
#define TLLM_LOG_WARNING(...) TLLM_LOG(::tensorrt_llm::common::Logger::WARNING, __VA_ARGS__)
#define TLLM_LOG_ERROR(...) TLLM_LOG(::tensorrt_llm::common::Logger::ERROR, __VA_ARGS__)
#define TLLM_LOG_EXCEPTION(...) ::tensorrt_llm::common::Logger::getLogger()->log(__VA_ARGS__)
