#pragma once

#include <string>

#include "text/jinja/value.h"

namespace headrace::jinja {

/// `input | name(arguments)` as jinja2's filter of that name gives it. Failure for unknown filters.
Value apply_filter(const std::string& name, const Value& input, const Arguments& arguments,
                   Budget& budget);

/// `value is name(arguments)`. Failure for unknown tests.
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments,
                Budget& budget);

}  // namespace headrace::jinja
