#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace headrace::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

struct RenderOptions {
  uint64_t max_steps = 2'000'000;     // expressions and statements evaluated
  uint64_t max_bytes = 64 << 20;      // text and lists made or looked through, besides
  uint64_t max_bytes_per_input = 64;  // so much for each byte of string among the variables
  int64_t unix_time = -1;             // for strftime_now; negative: the system's time
};

/// A parsed Jinja template: the subset of the language that chat templates use, as jinja2 renders
/// it with trim_blocks, lstrip_blocks, loop controls and the immutable sandbox. Immutable;
/// thread-safe.
class Template {
 public:
  /// Failure, beginning with "line N: ", for a syntax error. Invalid UTF-8 counts as U+FFFD.
  explicit Template(std::string_view source);

  /// Failure, beginning with "line N: ", for what goes wrong. Strings among the variables are valid
  /// UTF-8.
  std::string render(const Variables& variables, const RenderOptions& options = {}) const;

 private:
  Block block_;
};

}  // namespace headrace::jinja
