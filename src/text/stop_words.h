#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace headrace {

/// Watches generated text for stop words, also across the pieces in which it arrives. Text that may
/// turn out to be the beginning of a stop word is held back until it is certain. What comes out
/// does not depend on how the text was cut into pieces. Confined to one thread.
class StopWords {
 public:
  /// Empty words are ignored.
  explicit StopWords(std::vector<std::string> words);

  /// Takes the next piece of text and returns what may be shown now. The first stop word to be
  /// complete ends the text: it and everything after it are dropped.
  std::string feed(std::string_view text);

  /// A stop word has been seen; feed() returns nothing more.
  bool stopped() const { return stopped_; }

  /// The text ended without a stop word: returns what was held back.
  std::string finish();

 private:
  size_t held_length() const;

  std::vector<std::string> words_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace headrace
