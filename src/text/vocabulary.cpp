#include "text/vocabulary.h"

#include "base/error.h"

namespace headrace::text {

void Vocabulary::expect(size_t count) {
  constexpr int64_t kSlack = 1 << 16;  // holes that published vocabularies leave
  constexpr int64_t kMost = 1 << 24;
  limit_ = count > kMost ? 2 * kMost : 2 * static_cast<int64_t>(count) + kSlack;
  ids_.reserve(static_cast<size_t>(limit_ - kSlack) / 2);
}

void Vocabulary::add(std::string_view piece, int64_t id) {
  if (id < 0 || id >= limit_) {
    fail(ErrorCode::kCorrupt, "[tokenizer] token '{}' has the id {}: expected 0 to {}", piece, id,
         limit_ - 1);
  }
  if (piece.empty()) fail(ErrorCode::kCorrupt, "[tokenizer] token {} has no text", id);
  const auto index = static_cast<size_t>(id);
  if (index >= pieces_.size()) pieces_.resize(index + 1);
  if (!pieces_[index].empty()) {
    fail(ErrorCode::kCorrupt, "[tokenizer] the id {} belongs to '{}' and to '{}'", id,
         pieces_[index], piece);
  }
  pieces_[index] = piece;
  ids_.emplace(piece, static_cast<int32_t>(id));
}

std::optional<int32_t> Vocabulary::find(std::string_view piece) const {
  const auto found = ids_.find(piece);
  return found == ids_.end() ? std::nullopt : std::optional<int32_t>(found->second);
}

}  // namespace headrace::text
