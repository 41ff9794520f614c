#include "text/regex_dialect.h"

#include <vector>

#include "base/error.h"
#include "text/unicode.h"

namespace headrace::text {
namespace {

// Members of the classes that PCRE2's own shorthands draw differently.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWord = R"(\p{L}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9a-fA-F";

// Letters and numbers of Unicode 16, as Hugging Face's tokenizers know them, that came after the
// Unicode 14 of PCRE2 10.42.
constexpr std::string_view kNewLetters =
    R"(\x{1C89}-\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3})"
    R"(\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}-\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C})"
    R"(\x{18CFF}\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB})"
    R"(\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr std::string_view kNewNumbers =
    R"(\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11F50}-\x{11F59})"
    R"(\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3})"
    R"(\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (!at_end()) step();
    return std::move(out_);
  }

 private:
  bool at_end() const { return position_ >= pattern_.size(); }
  char peek(size_t ahead = 0) const {
    return position_ + ahead < pattern_.size() ? pattern_[position_ + ahead] : '\0';
  }

  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] the pattern '{}' uses {}, which is not supported; token ids still work",
         pattern_, what);
  }

  void step() {
    switch (peek()) {
      case '\\':
        atom_ = out_.size();
        escape();
        break;
      case '[':
        atom_ = out_.size();
        bracket();
        break;
      case '(':
        groups_.push_back(out_.size());
        open_group();
        break;
      case ')':
        if (groups_.empty()) refuse("a ')' without '('");
        atom_ = groups_.back();
        groups_.pop_back();
        copy(1);
        break;
      case '{':
        interval();
        break;
      case '?':
      case '*':
      case '+':
      case '|':
        copy(1);
        break;
      default:
        atom_ = out_.size();
        copy(utf8_length(peek()));
    }
  }

  void copy(size_t bytes) {
    out_ += pattern_.substr(position_, bytes);
    position_ += bytes;
  }

  void replace(size_t bytes, std::string_view with) {
    out_ += with;
    position_ += bytes;
  }

  void escape() {
    switch (peek(1)) {
      case 's':
        return replace(2, fmt::format("[{}]", kSpace));
      case 'S':
        return replace(2, fmt::format("[^{}]", kSpace));
      case 'w':
        return replace(2, fmt::format("[{}]", kWord));
      case 'W':
        return replace(2, fmt::format("[^{}]", kWord));
      case 'h':
        return replace(2, fmt::format("[{}]", kHex));
      case 'H':
        return replace(2, fmt::format("[^{}]", kHex));
      case 'b':
        return replace(2, fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWord));
      case 'B':
        return replace(2, fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWord));
      default:
        shared_escape();
    }
  }

  void shared_escape() {
    switch (peek(1)) {
      case 'd':
        return replace(2, R"(\p{Nd})");
      case 'D':
        return replace(2, R"(\P{Nd})");
      case 'v':
        return replace(2, R"(\x{0b})");
      case 'p':
      case 'P':
        return property();
      case 'u':
        if (position_ + 6 > pattern_.size()) refuse("an unfinished \\u");
        return replace(6, fmt::format("\\x{{{}}}", pattern_.substr(position_ + 2, 4)));
      case '\0':
        if (position_ + 1 >= pattern_.size()) refuse("a '\\' at its end");
        return copy(2);
      default:
        copy(1 + utf8_length(peek(1)));
    }
  }

  /// \p{Name}: the braces are no interval.
  void property() {
    const size_t end = peek(2) == '{' ? pattern_.find('}', position_) : std::string_view::npos;
    if (end == std::string_view::npos) refuse("a property without braces");
    const size_t bytes = end + 1 - position_;
    const std::string_view written = pattern_.substr(position_, bytes);
    const std::string_view name = written.substr(3, bytes - 4);
    const std::string_view more = name == "L" ? kNewLetters : name == "N" ? kNewNumbers : "";
    if (more.empty()) return copy(bytes);
    if (!in_class_) {
      return replace(bytes,
                     fmt::format("[{}\\p{{{}}}{}]", written[1] == 'P' ? "^" : "", name, more));
    }
    copy(bytes);
    if (written[1] == 'p') out_ += more;
  }

  void bracket() {
    in_class_ = true;
    copy(1);
    if (peek() == '^') copy(1);
    if (peek() == ']') copy(1);
    while (peek() != ']') {
      if (at_end()) refuse("a '[' without ']'");
      bracket_member();
    }
    copy(1);
    in_class_ = false;
  }

  void bracket_member() {
    if (peek() == '&' && peek(1) == '&') refuse("an intersection of classes");
    if (peek() == '[') {
      const size_t end = peek(1) == ':' ? pattern_.find(":]", position_ + 2) : std::string::npos;
      if (end == std::string::npos) refuse("a class inside a class");
      return copy(end + 2 - position_);
    }
    if (peek() != '\\') return copy(utf8_length(peek()));
    switch (peek(1)) {
      case 's':
        return replace(2, kSpace);
      case 'w':
        return replace(2, kWord);
      case 'h':
        return replace(2, kHex);
      case 'W':
      case 'H':
        refuse("\\W or \\H inside a class");
      default:
        shared_escape();
    }
  }

  void open_group() {
    copy(1);
    if (peek() != '?') return;
    size_t end = position_ + 1;
    std::string flags = "?";
    while (end < pattern_.size()) {
      const char c = pattern_[end];
      if (c == 'm') {
        flags += 's';  // Ruby's m lets the dot match a line break
      } else if (c == 'i' || c == 'x' || c == '-') {
        flags += c;
      } else {
        break;
      }
      ++end;
    }
    if (flags.size() == 1) return;
    const char after = end < pattern_.size() ? pattern_[end] : '\0';
    if (after != ':' && after != ')') refuse("unknown group options");
    replace(end - position_, flags);
    if (after == ')') {
      groups_.pop_back();
      copy(1);
    }
  }

  /// `{n,m}`: Ruby reads a '+' after it as another quantifier, PCRE2 as possessive; `{,m}` counts
  /// from 0. Braces that are no interval stand for themselves.
  void interval() {
    const size_t close = pattern_.find('}', position_);
    const std::string_view inside = close == std::string_view::npos
                                        ? ""
                                        : pattern_.substr(position_ + 1, close - position_ - 1);
    if (inside.empty() || inside == "," ||
        inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      atom_ = out_.size();
      return replace(1, R"(\{)");
    }
    replace(close + 1 - position_,
            inside.front() == ',' ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside));
    if (peek() == '+' || (peek() == '?' && inside.find(',') == std::string_view::npos)) {
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  std::string_view pattern_;
  size_t position_ = 0;
  bool in_class_ = false;
  std::string out_;
  size_t atom_ = 0;             // where the last atom begins in out_
  std::vector<size_t> groups_;  // where the open groups begin in out_
};

}  // namespace

std::string translate_pattern(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace headrace::text
