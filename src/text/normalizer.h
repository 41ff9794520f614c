#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace headrace::text {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

/// One of Unicode's normal forms of `valid` UTF-8. Linear (runs of combining marks are sorted).
std::string unicode_normalize(std::string_view valid, UnicodeForm form);

/// Puts `prefix` before a text that is not empty.
struct Prepend {
  std::string prefix;
};

/// Replaces every occurrence of `from` by `to`. REQUIRES: `from` is not empty.
struct Replace {
  std::string from;
  std::string to;
};

std::string replace_all(std::string_view text, const Replace& rule);

/// What a tokenizer does to the text before anything else. Immutable; thread-safe.
class Normalizer {
 public:
  using Step = std::variant<UnicodeForm, Prepend, Replace>;
  Normalizer() = default;
  explicit Normalizer(std::vector<Step> steps) : steps_(std::move(steps)) {}

  bool empty() const { return steps_.empty(); }
  /// REQUIRES: valid UTF-8.
  std::string apply(std::string_view valid) const;

 private:
  std::vector<Step> steps_;
};

}  // namespace headrace::text
