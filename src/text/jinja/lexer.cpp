#include "text/jinja/lexer.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "text/jinja/value.h"
#include "text/unicode.h"

namespace headrace::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         (static_cast<unsigned char>(c) & 0x80) != 0;
}

/// Length of the white space at the front.
size_t leading_space(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const text::Utf8Step step = text::utf8_step(text.substr(length));
    const bool separator = step.code >= 0x1C && step.code <= 0x1F;  // white space to Python
    if (!text::is_space(step.code) && !separator) break;
    length += step.length;
  }
  return length;
}

/// `text` without the white space at its end.
std::string_view strip_back(std::string_view text) {
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (leading_space(text.substr(start)) != text.size() - start) break;
    text = text.substr(0, start);
  }
  return text;
}

/// Line breaks become \n, and one at the very end goes.
std::string normalize_lines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_lines(source)), rest_(source_) {}

  std::vector<Token> run() {
    while (!rest_.empty()) lex_text();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Failure(fmt::format("line {}: {}", line_, what));
  }

  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  void skip(size_t bytes) {
    line_ +=
        static_cast<int>(std::count(rest_.begin(), rest_.begin() + static_cast<long>(bytes), '\n'));
    if (bytes > 0) line_starting_ = rest_[bytes - 1] == '\n';
    rest_.remove_prefix(bytes);
  }

  /// Text up to the next tag, then the tag.
  void lex_text() {
    size_t at = rest_.find('{');
    while (at != std::string_view::npos &&
           (at + 1 == rest_.size() ||
            std::string_view("{%#").find(rest_[at + 1]) == std::string_view::npos)) {
      at = rest_.find('{', at + 1);
    }
    if (at == std::string_view::npos) {
      add(Token::Kind::kText, std::string(rest_));
      skip(rest_.size());
      return;
    }
    const char kind = rest_[at + 1];
    const char sign = at + 2 < rest_.size() ? rest_[at + 2] : '\0';
    const std::string_view text = trimmed(rest_.substr(0, at), kind, sign);
    if (!text.empty()) add(Token::Kind::kText, std::string(text));
    skip(at);
    skip(sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') {
      lex_comment();
    } else if (kind == '{') {
      add(Token::Kind::kVariableBegin, "{{");
      lex_tag("}}", Token::Kind::kVariableEnd);
    } else if (!lex_raw()) {
      add(Token::Kind::kBlockBegin, "{%");
      lex_tag("%}", Token::Kind::kBlockEnd);
    }
  }

  /// The text before a tag as the tag's sign and lstrip_blocks leave it.
  std::string_view trimmed(std::string_view text, char kind, char sign) const {
    if (sign == '-') return strip_back(text);
    if (sign == '+' || kind == '{') return text;
    const size_t line_break = text.rfind('\n');
    const size_t start = line_break == std::string_view::npos ? 0 : line_break + 1;
    if (start == 0 && !line_starting_) return text;
    const std::string_view indent = text.substr(start);
    return leading_space(indent) == indent.size() ? text.substr(0, start) : text;
  }

  /// Consumes the end of a tag or comment if it is here.
  bool lex_end(std::string_view end, bool trim_block) {
    if (rest_.starts_with('-') && rest_.substr(1).starts_with(end)) {
      skip(3);
      skip(leading_space(rest_));
      return true;
    }
    if (trim_block && rest_.starts_with('+') && rest_.substr(1).starts_with(end)) {
      skip(3);
      return true;
    }
    if (!rest_.starts_with(end)) return false;
    skip(2);
    if (trim_block && rest_.starts_with('\n')) skip(1);
    return true;
  }

  void lex_comment() {
    while (!rest_.empty()) {
      if (lex_end("#}", true)) return;
      skip(1);
    }
    refuse("a comment without end");
  }

  /// Consumes "{% raw %} ... {% endraw %}" after its "{%".
  bool lex_raw() {
    std::string_view ahead = rest_.substr(leading_space(rest_));
    if (!ahead.starts_with("raw")) return false;
    ahead.remove_prefix(3);
    ahead.remove_prefix(leading_space(ahead));
    const bool strip = ahead.starts_with("-%}");
    if (!strip && !ahead.starts_with("%}")) return false;
    skip(rest_.size() - ahead.size() + (strip ? 3 : 2));
    if (strip) skip(leading_space(rest_));
    for (size_t at = rest_.find("{%"); at != std::string_view::npos;
         at = rest_.find("{%", at + 1)) {
      if (lex_raw_end(at)) return true;
    }
    refuse("'raw' without 'endraw'");
  }

  bool lex_raw_end(size_t at) {
    const std::string_view text = rest_.substr(0, at);
    std::string_view ahead = rest_.substr(at + 2);
    const char sign = ahead.empty() ? '\0' : ahead[0];
    if (sign == '-' || sign == '+') ahead.remove_prefix(1);
    ahead.remove_prefix(leading_space(ahead));
    if (!ahead.starts_with("endraw")) return false;
    ahead.remove_prefix(6);
    ahead.remove_prefix(leading_space(ahead));
    if (!ahead.starts_with("%}") && !ahead.starts_with("-%}") && !ahead.starts_with("+%}")) {
      return false;
    }
    const std::string_view kept = trimmed(text, '%', sign);
    if (!kept.empty()) add(Token::Kind::kText, std::string(kept));
    skip(rest_.size() - ahead.size());
    return lex_end("%}", true);
  }

  void lex_tag(std::string_view end, Token::Kind end_kind) {
    const bool block = end_kind == Token::Kind::kBlockEnd;
    std::vector<char> open;
    while (true) {
      skip(leading_space(rest_));
      if (rest_.empty()) refuse("a tag without end");
      const int line = line_;
      if (open.empty() && lex_end(end, block)) {
        tokens_.push_back({end_kind, std::string(end), line});
        return;
      }
      lex_token(open);
    }
  }

  void lex_token(std::vector<char>& open) {
    const char c = rest_[0];
    if (c == '\'' || c == '"') {
      lex_string(c);
    } else if (is_digit(c)) {
      lex_number();
    } else if (is_name_start(c)) {
      size_t length = 1;
      while (length < rest_.size() && (is_name_start(rest_[length]) || is_digit(rest_[length]))) {
        ++length;
      }
      add(Token::Kind::kName, std::string(rest_.substr(0, length)));
      skip(length);
    } else {
      lex_operator(open);
    }
  }

  void lex_operator(std::vector<char>& open) {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!rest_.starts_with(two)) continue;
      add(Token::Kind::kOperator, std::string(two));
      return skip(2);
    }
    const char c = rest_[0];
    if (std::string_view("+-*/%~[](){}<>=.:|,").find(c) == std::string_view::npos) {
      refuse(fmt::format("'{}' does not belong into a tag", rest_.substr(0, text::utf8_length(c))));
    }
    if (c == '(' || c == '[' || c == '{') {
      open.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) refuse(fmt::format("'{}' closes nothing", c));
      open.pop_back();
    }
    add(Token::Kind::kOperator, std::string(1, c));
    skip(1);
  }

  void lex_number() {
    size_t length = 0;
    const auto digits = [&] {
      while (length < rest_.size() && is_digit(rest_[length])) ++length;
    };
    const auto digit_at = [&](size_t at) { return at < rest_.size() && is_digit(rest_[at]); };
    digits();
    bool is_float = false;
    if (length < rest_.size() && rest_[length] == '.' && digit_at(length + 1)) {
      is_float = true;
      ++length;
      digits();
    }
    if (length < rest_.size() && (rest_[length] == 'e' || rest_[length] == 'E')) {
      const bool sign =
          length + 1 < rest_.size() && (rest_[length + 1] == '+' || rest_[length + 1] == '-');
      if (digit_at(length + (sign ? 2 : 1))) {
        is_float = true;
        length += sign ? 2 : 1;
        digits();
      }
    }
    add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger,
        std::string(rest_.substr(0, length)));
    skip(length);
  }

  void lex_string(char quote) {
    std::string text;
    size_t at = 1;
    while (at < rest_.size() && rest_[at] != quote) {
      if (rest_[at] == '\\') {
        at += append_escape(rest_.substr(at), text);
      } else {
        text += rest_[at++];
      }
    }
    if (at >= rest_.size()) refuse("a string without end");
    add(Token::Kind::kString, std::move(text));
    skip(at + 1);
  }

  /// Appends what the escape at the front of `from` stands for, as in a Python string literal, and
  /// returns its length.
  size_t append_escape(std::string_view from, std::string& out) const {
    if (from.size() < 2) refuse("a string without end");
    constexpr std::string_view kNames = "nrtabfv\\'\"";
    constexpr std::string_view kCodes = "\n\r\t\a\b\f\v\\'\"";
    const char c = from[1];
    if (const size_t i = kNames.find(c); i != std::string_view::npos) {
      out += kCodes[i];
      return 2;
    }
    if (c == '\n') return 2;
    if (c >= '0' && c <= '7') {
      size_t length = 1;
      char32_t code = 0;
      while (length < 4 && length < from.size() && from[length] >= '0' && from[length] <= '7') {
        code = code * 8 + static_cast<char32_t>(from[length++] - '0');
      }
      text::append_utf8(out, code);
      return length;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      out += '\\';
      return 1;  // an unknown escape stands for itself
    }
    text::append_utf8(out, hex_code(from.substr(2), digits));
    return 2 + digits;
  }

  char32_t hex_code(std::string_view from, size_t digits) const {
    char32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = i < from.size() ? from[i] : '\0';
      const auto digit = std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
      const bool hex = is_digit(c) || (digit >= 10 && digit < 16);
      if (!hex || code > 0x10FFFF) refuse("an escape with wrong digits");
      code = code * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : static_cast<int>(digit));
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      refuse("an escape that is no character");
    }
    return code;
  }

  std::string source_;
  std::string_view rest_;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace headrace::jinja
