#include "tensorrt_llm/common/logger.h"

#include <array>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace tensorrt_llm::common {
namespace {

constexpr std::array<std::pair<std::string_view, Logger::Level>, 5> kLevels = {{
    {"TRACE", Logger::TRACE},
    {"DEBUG", Logger::DEBUG},
    {"INFO", Logger::INFO},
    {"WARNING", Logger::WARNING},
    {"ERROR", Logger::ERROR},
}};

/// INFO where nothing, or something else, is asked for.
Logger::Level level_of_environment() {
  char const* const asked = std::getenv("TLLM_LOG_LEVEL");
  for (auto const& [name, level] : kLevels) {
    if (asked != nullptr && name == asked) return level;
  }
  return Logger::INFO;
}

std::string_view level_name(Logger::Level asked) {
  for (auto const& [name, level] : kLevels) {
    if (level == asked) return name;
  }
  return "LOG";
}

}  // namespace

Logger* Logger::getLogger() {
  static Logger logger;
  return &logger;
}

Logger::Logger() : level_(level_of_environment()) {}

void Logger::write(Level level, std::string const& message) {
  std::ostream& out = level < WARNING ? std::cout : std::cerr;
  std::lock_guard const lock(mutex_);
  out << "[TensorRT-LLM][" << level_name(level) << "] " << message << std::endl;
}

}  // namespace tensorrt_llm::common
