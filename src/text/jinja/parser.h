#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace headrace::jinja {

/// Parses a template. Failure, beginning with "line N: ", for a syntax error, for what is not
/// supported (inheritance, includes, call and filter blocks) and for nesting beyond a fixed depth.
/// REQUIRES: valid UTF-8.
Block parse_template(std::string_view source);

}  // namespace headrace::jinja
