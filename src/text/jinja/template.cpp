#include "text/jinja/template.h"

#include <fmt/format.h>

#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/unicode.h"

namespace headrace::jinja {

Template::Template(std::string_view source) : block_(parse_template(text::repair_utf8(source))) {}

std::string Template::render(const Variables& variables, const RenderOptions& options) const {
  Interpreter interpreter(variables, options);
  try {
    return interpreter.run(block_);
  } catch (const Failure& failure) {
    throw Failure(fmt::format("line {}: {}", interpreter.line(), failure.what()));
  }
}

}  // namespace headrace::jinja
