#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "tensorrt_llm/common/stringUtils.h"

namespace tensorrt_llm::common {

/// What TLLM_THROW and TLLM_CHECK throw. Failures of the engine are headrace::Error; both are
/// std::runtime_error.
class TllmException : public std::runtime_error {
 public:
  TllmException(char const* file, std::size_t line, std::string const& message)
      : std::runtime_error(message + " (" + file + ":" + std::to_string(line) + ")") {}
};

[[noreturn]] inline void throwRuntimeError(char const* file, int line, std::string const& info) {
  throw TllmException(file, static_cast<std::size_t>(line),
                      "[TensorRT-LLM][ERROR] Assertion failed: " + info);
}

}  // namespace tensorrt_llm::common

#define NEW_TLLM_EXCEPTION(...)                             \
  ::tensorrt_llm::common::TllmException(__FILE__, __LINE__, \
                                        ::tensorrt_llm::common::fmtstr(__VA_ARGS__))

/// TLLM_THROW(format, values...) or TLLM_THROW(std::string).
#define TLLM_THROW(...) throw NEW_TLLM_EXCEPTION(__VA_ARGS__)
