#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headrace::jinja {

struct Token {
  enum class Kind {
    kText,           // template text, white space already trimmed
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,  // escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,  // of the template
  };
  Kind kind;
  std::string text;
  int line;
};

/// Cuts a template into tokens, with jinja2's rules for white space under trim_blocks and
/// lstrip_blocks and without keep_trailing_newline. The last token is kEnd. Failure, beginning with
/// "line N: ", for what is no template. REQUIRES: valid UTF-8.
std::vector<Token> tokenize(std::string_view source);

}  // namespace headrace::jinja
