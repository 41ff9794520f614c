#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace headrace::jinja {

/// `a op b` for + - * / // % **, with Python's meaning on numbers, strings and lists. Failure for
/// other types, division by zero and integers beyond 64 bits.
Value arithmetic(const std::string& op, const Value& a, const Value& b, Budget& budget);

/// `a op b` for == != < <= > >= in, not in.
bool compare(const std::string& op, const Value& a, const Value& b, Budget& budget);

/// `object[key]`: an item, or an undefined value.
Value get_item(const Value& object, const Value& key, Budget& budget);

/// `object[start:stop:step]` of a string or list; nullopt where a bound is left out.
struct SliceBounds {
  std::optional<int64_t> start;
  std::optional<int64_t> stop;
  std::optional<int64_t> step;
};
Value get_slice(const Value& object, const SliceBounds& bounds, Budget& budget);

}  // namespace headrace::jinja
