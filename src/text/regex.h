#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace headrace::text {

/// A span of a text: [begin, end).
struct Span {
  size_t begin;
  size_t end;
};

/// A regular expression in the dialect of Hugging Face's tokenizers (Oniguruma's Ruby syntax over
/// Unicode), run by PCRE2 with its just-in-time compiler. What the dialects write alike but mean
/// differently is translated: \s \d \w \h, `{n,m}+`, `^` and `$`. Immutable; thread-safe.
class Regex {
 public:
  /// Error{kUnsupported} for a pattern that PCRE2 refuses or that cannot be translated.
  explicit Regex(std::string_view pattern);
  /// Matches `text` itself.
  static Regex literal(std::string_view text);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Finds matches; keeps the matcher's working memory between calls. Confined to one thread;
  /// borrows the regex.
  class Scanner {
   public:
    explicit Scanner(const Regex& regex);
    ~Scanner();
    Scanner(Scanner&&) noexcept;
    /// The first match at or after `from` that is not empty. REQUIRES: `text` is valid UTF-8 and
    /// `from` is the beginning of a character, or its end.
    std::optional<Span> next(std::string_view text, size_t from);

   private:
    struct State;
    int match(std::string_view text, size_t from);
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

}  // namespace headrace::text
