#pragma once

#include <string>
#include <utility>

#include <fmt/format.h>

#include "headrace/error.h"

namespace headrace {

/// Throws Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws kIo with `place`, `path` and the text of `error_number` (an errno value).
[[noreturn]] void fail_io(const char* place, const char* action, const std::string& path,
                          int error_number);

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

/// States an invariant of our own. A violation is our bug: it throws Error{kInternal}. It never
/// guards user input.
#define HR_CHECK(condition)                                     \
  do {                                                          \
    if (!(condition)) {                                         \
      ::headrace::check_failed(#condition, __FILE__, __LINE__); \
    }                                                           \
  } while (false)

}  // namespace headrace
