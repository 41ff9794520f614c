// Values as text: Python's str() and repr(), and JSON as Python's json module writes it.

#include <charconv>
#include <cmath>
#include <string>

#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/value.h"
#include "text/unicode.h"

namespace headrace::jinja {
namespace {

/// Python's repr of a float: the shortest digits that read back, exponent from 1e16 and below 1e-4.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const double magnitude = std::fabs(value);
  const bool plain = value == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto format = plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), value, format);
  std::string text(buffer, error == std::errc() ? end : buffer);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

bool is_printable(char32_t code) {
  if (code == ' ') return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  switch (category) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

std::string string_repr(std::string_view text) {
  const bool double_quotes =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char32_t quote = double_quotes ? '"' : '\'';
  std::string out(1, static_cast<char>(quote));
  while (!text.empty()) {
    const text::Utf8Step step = text::utf8_step(text);
    const char32_t code = step.code;
    if (code == quote || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (is_printable(code)) {
      out += text.substr(0, step.length);
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(code));
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(code));
    }
    text.remove_prefix(step.length);
  }
  out += static_cast<char>(quote);
  return out;
}

std::string string_json(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

/// Appends what `write` makes of each item, separated, between brackets; charges the text.
class Writer {
 public:
  explicit Writer(Budget& budget) : budget_(budget) {}
  std::string take() { return std::move(out_); }

  void add(std::string_view text) {
    budget_.bytes(text.size());
    out_ += text;
  }

  void repr(const Value& value) {
    budget_.step();
    if (value.is_string()) {
      add(string_repr(value.string()));
    } else if (value.is_list()) {
      repr_list(value);
    } else if (value.is_dict()) {
      add("{");
      const char* separator = "";
      for (const auto& [key, item] : value.dict().items) {
        add(separator);
        add(string_repr(key));
        add(": ");
        repr(item);
        separator = ", ";
      }
      add("}");
    } else {
      add(scalar(value));
    }
  }

  void json(const Value& value, int indent, int level) {
    budget_.step();
    if (value.is_string()) {
      add(string_json(value.string()));
    } else if (value.is_list()) {
      const auto& items = value.list();
      block('[', ']', items.size(), indent, level,
            [&](size_t i) { json(items[i], indent, level + 1); });
    } else if (value.is_dict()) {
      const auto& items = value.dict().items;
      block('{', '}', items.size(), indent, level, [&](size_t i) {
        add(string_json(items[i].first));
        add(": ");
        json(items[i].second, indent, level + 1);
      });
    } else if (value.is_none()) {
      add("null");
    } else if (value.is_bool()) {
      add(value.truthy() ? "true" : "false");
    } else if (value.is_float() && !std::isfinite(value.number())) {
      add(std::isnan(value.number()) ? "NaN" : value.number() < 0 ? "-Infinity" : "Infinity");
    } else if (value.is_number()) {
      add(scalar(value));
    } else {
      throw Failure(fmt::format("'{}' cannot be written as JSON", value.type_name()));
    }
  }

  static std::string scalar(const Value& value) {
    if (value.is_undefined()) return "Undefined";
    if (value.is_none()) return "None";
    if (value.is_bool()) return value.truthy() ? "True" : "False";
    if (value.is_integer()) return std::to_string(value.integer());
    if (value.is_float()) return float_text(value.number());
    throw Failure(fmt::format("'{}' cannot be written as text", value.type_name()));
  }

 private:
  void repr_list(const Value& value) {
    const bool tuple = value.is_tuple();
    add(tuple ? "(" : "[");
    const char* separator = "";
    for (const Value& item : value.list()) {
      add(separator);
      repr(item);
      separator = ", ";
    }
    if (tuple) {
      add(value.list().size() == 1 ? ",)" : ")");
    } else {
      add("]");
    }
  }

  template <typename WriteItem>
  void block(char open, char close, size_t count, int indent, int level, WriteItem write) {
    add({&open, 1});
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) add(indent < 0 ? ", " : ",");
      new_line(indent, level + 1);
      write(i);
    }
    if (count > 0) new_line(indent, level);
    add({&close, 1});
  }

  void new_line(int indent, int level) {
    if (indent < 0) return;
    add("\n");
    add(std::string(static_cast<size_t>(indent) * static_cast<size_t>(level), ' '));
  }

  Budget& budget_;
  std::string out_;
};

}  // namespace

std::string to_repr(const Value& value, Budget& budget) {
  Writer writer(budget);
  writer.repr(value);
  return writer.take();
}

std::string to_text(const Value& value, Budget& budget) {
  if (value.is_string()) {
    budget.bytes(value.string().size());
    return value.string();
  }
  if (value.is_undefined()) return "";
  return to_repr(value, budget);
}

std::string to_json(const Value& value, int indent, Budget& budget) {
  Writer writer(budget);
  writer.json(value, indent, 0);
  return writer.take();
}

}  // namespace headrace::jinja
