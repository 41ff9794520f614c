#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace headrace::text {
namespace {

bool touches_word(std::string_view before, std::string_view after) {
  return (!before.empty() && is_word(last_code_point(before))) ||
         (!after.empty() && is_word(first_code_point(after)));
}

size_t spaces_at_front(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = utf8_step(text.substr(length));
    if (!is_space(step.code)) break;
    length += step.length;
  }
  return length;
}

/// Where the white space that ends `text` begins, not before `floor`.
size_t spaces_at_back(std::string_view text, size_t floor) {
  size_t begin = text.size();
  while (begin > floor) {
    size_t start = begin - 1;
    while (start > floor && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_space(utf8_step(text.substr(start, begin - start)).code)) break;
    begin = start;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  const auto same = [](const AddedToken& a, const AddedToken& b) { return a.content == b.content; };
  tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), same), tokens_.end());
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (content.size() > kMaxBytes) {
      fail(ErrorCode::kUnsupported,
           "[tokenizer] the added token {} has {} bytes: at most {} are supported", tokens_[i].id,
           content.size(), kMaxBytes);
    }
    Range& range = by_first_[static_cast<uint8_t>(content[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text) const {
  const Range range = by_first_[static_cast<uint8_t>(text[0])];
  auto begin = tokens_.begin() + range.begin;
  auto end = tokens_.begin() + range.end;
  const AddedToken* longest = nullptr;
  for (size_t depth = 1; begin != end; ++depth) {
    if (begin->content.size() == depth) longest = &*begin++;  // the shortest sorts first
    if (depth == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[depth]);
    const auto byte_of = [depth](const AddedToken& token) {
      return static_cast<uint8_t>(token.content[depth]);
    };
    begin = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) < byte; });
    end = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) <= byte; });
  }
  return longest;
}

void AddedTokens::split(std::string_view text, bool skip_special,
                        const std::function<void(std::string_view)>& on_text,
                        const std::function<void(int32_t)>& on_token) const {
  size_t done = 0;
  const auto flush = [&](size_t end) {
    if (end > done) on_text(text.substr(done, end - done));
  };
  size_t position = 0;
  while (!tokens_.empty() && position < text.size()) {
    if (by_first_[static_cast<uint8_t>(text[position])].end == 0) {
      ++position;
      continue;
    }
    const AddedToken* token = longest_at(text.substr(position));
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position;
    size_t end = position + token->content.size();
    position = end;
    if (skip_special && token->special) continue;
    if (token->single_word && touches_word(text.substr(0, begin), text.substr(end))) continue;
    if (token->lstrip && begin > done) begin = spaces_at_back(text.substr(0, begin), done);
    if (token->rstrip) end += spaces_at_front(text.substr(end));
    flush(begin);
    on_token(token->id);
    done = std::max(done, end);
  }
  flush(text.size());
}

}  // namespace headrace::text
