#include "text/stop_words.h"

#include <algorithm>
#include <utility>

namespace headrace {

StopWords::StopWords(std::vector<std::string> words) : words_(std::move(words)) {
  std::erase(words_, std::string());
}

std::string StopWords::feed(std::string_view text) {
  if (stopped_) return "";
  held_.append(text);
  size_t best_end = std::string::npos;
  size_t best_start = 0;
  for (const std::string& word : words_) {
    const size_t start = held_.find(word);
    if (start == std::string::npos) continue;
    const size_t end = start + word.size();
    if (end < best_end || (end == best_end && start < best_start)) {
      best_end = end;
      best_start = start;
    }
  }
  stopped_ = best_end != std::string::npos;
  const size_t shown = stopped_ ? best_start : held_.size() - held_length();
  std::string out = held_.substr(0, shown);
  held_.erase(0, stopped_ ? held_.size() : shown);
  return out;
}

std::string StopWords::finish() { return std::exchange(held_, {}); }

size_t StopWords::held_length() const {
  size_t longest = 0;
  const std::string_view held = held_;
  for (const std::string& word : words_) {
    for (size_t n = std::min(word.size() - 1, held.size()); n > longest; --n) {
      if (held.ends_with(std::string_view(word).substr(0, n))) longest = n;
    }
  }
  return longest;
}

}  // namespace headrace
