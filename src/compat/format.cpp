#include <cctype>
#include <cstdio>
#include <string>
#include <vector>

#include "tensorrt_llm/common/stringUtils.h"

namespace tensorrt_llm::common::detail {
namespace {

/// A directive of a format: "%-8.3lu".
struct Directive {
  std::string flags;
  std::string width;      // digits or "*"
  std::string precision;  // ".", digits or ".*"; empty: none
  char conversion = '\0';
  char const* end = nullptr;  // behind it
};

char const* take_digits(char const* at, std::string& out) {
  if (*at == '*') {
    out += *at++;
  } else {
    while (std::isdigit(static_cast<unsigned char>(*at)) != 0) out += *at++;
  }
  return at;
}

/// `at` is behind the '%'. Length modifiers are dropped: values know their types.
Directive parse_directive(char const* at) {
  Directive found;
  while (*at != '\0' && std::string("-+ #0'").find(*at) != std::string::npos) found.flags += *at++;
  at = take_digits(at, found.width);
  if (*at == '.') {
    found.precision += *at++;
    at = take_digits(at, found.precision);
  }
  while (*at != '\0' && std::string("hljztLq").find(*at) != std::string::npos) ++at;
  if (*at != '\0') found.conversion = *at++;
  found.end = at;
  return found;
}

template <typename T>
std::string print(std::string const& format, T value) {
  int const length = std::snprintf(nullptr, 0, format.c_str(), value);
  if (length < 0) return "";
  std::string text(static_cast<size_t>(length), '\0');
  std::snprintf(text.data(), text.size() + 1, format.c_str(), value);
  return text;
}

/// Two's complement in the value's own size, as %x and %u show a negative number.
unsigned long long as_own_unsigned(FormatArg const& arg) {
  unsigned long long const value = arg.asUnsigned();
  if (arg.sizeBytes() >= sizeof(value)) return value;
  return value & ((1ULL << (8 * arg.sizeBytes())) - 1);
}

std::string print_integer(Directive const& directive, std::string const& start,
                          FormatArg const& arg) {
  bool const is_signed = arg.kind() == FormatArg::Kind::kSigned;
  switch (directive.conversion) {
    case 'c':
      return print(start + 'c', static_cast<int>(arg.asSigned()));
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      return print(start + "ll" + directive.conversion, as_own_unsigned(arg));
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
      return print(start + directive.conversion, is_signed ? static_cast<double>(arg.asSigned())
                                                           : static_cast<double>(arg.asUnsigned()));
    default:
      if (is_signed) return print(start + "lld", static_cast<long long>(arg.asSigned()));
      return print(start + "llu", static_cast<unsigned long long>(arg.asUnsigned()));
  }
}

std::string print_value(Directive const& directive, FormatArg const& arg) {
  std::string const start = "%" + directive.flags + directive.width + directive.precision;
  switch (arg.kind()) {
    case FormatArg::Kind::kText:
      return print(start + 's', arg.asText());
    case FormatArg::Kind::kPointer:
      return print(start + 'p', arg.asPointer());
    case FormatArg::Kind::kFloat:
      if (std::string("fFeEgGaA").find(directive.conversion) == std::string::npos) {
        return print(start + 'g', arg.asFloat());
      }
      return print(start + directive.conversion, arg.asFloat());
    default:
      return print_integer(directive, start, arg);
  }
}

}  // namespace

std::string formatArgs(char const* format, std::vector<FormatArg> const& args) {
  std::string out;
  size_t next = 0;
  char const* at = format;
  while (*at != '\0') {
    if (*at != '%') {
      out += *at++;
      continue;
    }
    if (at[1] == '%') {
      out += '%';
      at += 2;
      continue;
    }
    Directive directive = parse_directive(at + 1);
    for (std::string* star : {&directive.width, &directive.precision}) {
      if (star->empty() || star->back() != '*' || next >= args.size()) continue;
      star->pop_back();
      *star += std::to_string(args[next++].asSigned());
    }
    if (next < args.size() && directive.conversion != '\0') {
      out += print_value(directive, args[next++]);
    } else {
      out.append(at, directive.end);
    }
    at = directive.end;
  }
  return out;
}

}  // namespace tensorrt_llm::common::detail
