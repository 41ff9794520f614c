#include "text/jinja/strings.h"

#include <algorithm>

#include <utf8proc.h>

#include "text/unicode.h"

namespace headrace::jinja {
namespace {

bool is_python_space(char32_t code) {
  return text::is_space(code) || (code >= 0x1C && code <= 0x1F);
}

utf8proc_category_t category_of(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool is_letter(char32_t code) {
  const auto category = category_of(code);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_cased(char32_t code) {
  const auto category = category_of(code);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
}

template <typename Visit>
void for_each_code(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const text::Utf8Step step = text::utf8_step(text);
    visit(step.code);
    text.remove_prefix(step.length);
  }
}

template <typename Is>
bool all_of(std::string_view text, Is is) {
  bool all = !text.empty();
  for_each_code(text, [&](char32_t code) { all = all && is(code); });
  return all;
}

char32_t upper(char32_t code) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code)));
}
char32_t lower(char32_t code) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

size_t last_character(std::string_view text) {
  size_t start = text.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

}  // namespace

std::string_view strip(std::string_view text, Side side,
                       std::optional<std::string_view> characters) {
  const auto drops = [&](std::string_view character) {
    if (characters) return characters->find(character) != std::string_view::npos;
    return is_python_space(text::utf8_step(character).code);
  };
  while (side != Side::kRight && !text.empty()) {
    const size_t length = text::utf8_step(text).length;
    if (!drops(text.substr(0, length))) break;
    text.remove_prefix(length);
  }
  while (side != Side::kLeft && !text.empty()) {
    const size_t start = last_character(text);
    if (!drops(text.substr(start))) break;
    text = text.substr(0, start);
  }
  return text;
}

std::string to_upper(std::string_view text) {
  std::string out;
  for_each_code(text, [&](char32_t code) { text::append_utf8(out, upper(code)); });
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  for_each_code(text, [&](char32_t code) { text::append_utf8(out, lower(code)); });
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for_each_code(text, [&](char32_t code) {
    text::append_utf8(out, out.empty() ? upper(code) : lower(code));
  });
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for_each_code(text, [&](char32_t code) {
    text::append_utf8(out, in_word ? lower(code) : upper(code));
    in_word = is_cased(code);
  });
  return out;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t count) {
  std::string out;
  while (count != 0) {
    if (from.empty()) {  // Python inserts `to` before every character and at the end
      out += to;
      if (text.empty()) return out;
      const size_t length = text::utf8_step(text).length;
      out += text.substr(0, length);
      text.remove_prefix(length);
    } else {
      const size_t at = text.find(from);
      if (at == std::string_view::npos) break;
      out += text.substr(0, at);
      out += to;
      text.remove_prefix(at + from.size());
    }
    --count;
  }
  out += text;
  return out;
}

std::vector<std::string> split(std::string_view text, std::optional<std::string_view> separator,
                               int64_t limit) {
  std::vector<std::string> parts;
  if (!separator) {
    text = strip(text, Side::kLeft);
    while (!text.empty() && limit-- != 0) {
      size_t end = 0;
      while (end < text.size() && !is_python_space(text::utf8_step(text.substr(end)).code)) {
        end += text::utf8_step(text.substr(end)).length;
      }
      parts.emplace_back(text.substr(0, end));
      text = strip(text.substr(end), Side::kLeft);
    }
    if (!text.empty()) parts.emplace_back(text);
    return parts;
  }
  while (limit-- != 0) {
    const size_t at = text.find(*separator);
    if (at == std::string_view::npos) break;
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator->size());
  }
  parts.emplace_back(text);
  return parts;
}

std::vector<std::string> split_from_right(std::string_view text,
                                          std::optional<std::string_view> separator,
                                          int64_t limit) {
  if (limit < 0) return split(text, separator, -1);
  std::vector<std::string> parts;
  if (!separator) {
    text = strip(text, Side::kRight);
    while (!text.empty() && limit-- > 0) {
      size_t start = text.size();
      while (start > 0) {
        const size_t previous = last_character(text.substr(0, start));
        if (is_python_space(text::utf8_step(text.substr(previous)).code)) break;
        start = previous;
      }
      parts.emplace_back(text.substr(start));
      text = strip(text.substr(0, start), Side::kRight);
    }
    if (!text.empty()) parts.emplace_back(text);
  } else {
    while (limit-- > 0) {
      const size_t at = text.rfind(*separator);
      if (at == std::string_view::npos) break;
      parts.emplace_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
    parts.emplace_back(text);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  const auto ends_line = [](char32_t code) {
    return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
  };
  std::vector<std::string> lines;
  std::string line;
  char32_t last = 0;
  for_each_code(text, [&](char32_t code) {
    const bool second_of_pair = code == '\n' && last == '\r';
    last = code;
    if (second_of_pair) return;
    if (ends_line(code)) {
      lines.push_back(std::move(line));
      line.clear();
    } else {
      text::append_utf8(line, code);
    }
  });
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

bool all_digits(std::string_view text) {
  return all_of(text, [](char32_t c) { return category_of(c) == UTF8PROC_CATEGORY_ND; });
}
bool all_letters(std::string_view text) { return all_of(text, is_letter); }
bool all_alphanumeric(std::string_view text) {
  return all_of(text, [](char32_t c) { return is_letter(c) || text::is_numeric(c); });
}
bool all_space(std::string_view text) { return all_of(text, is_python_space); }

}  // namespace headrace::jinja
