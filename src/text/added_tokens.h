#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace headrace::text {

/// A token that is found in the text as it stands, before the text is cut into words.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;      // a control token: not part of the text
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows white space before it
  bool rstrip = false;       // swallows white space after it
  bool normalized = false;   // sought in the normalized text
};

/// Finds added tokens: at each place the longest one, from left to right, none overlapping.
/// Immutable; thread-safe.
class AddedTokens {
 public:
  /// Longer contents than kMaxBytes are Error{kUnsupported}; empty ones are ignored.
  explicit AddedTokens(std::vector<AddedToken> tokens);
  static constexpr size_t kMaxBytes = 1024;

  bool empty() const { return tokens_.empty(); }

  /// Cuts `text`: what lies between tokens goes to `on_text` (never empty), each token found to
  /// `on_token`, in order. With `skip_special`, special tokens count as text.
  /// REQUIRES: valid UTF-8.
  void split(std::string_view text, bool skip_special,
             const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t)>& on_token) const;

 private:
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
  };
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;     // sorted by content
  std::array<Range, 256> by_first_{};  // tokens that begin with a byte
};

}  // namespace headrace::text
