#include "text/detokenizer.h"

#include "text/tokenizer.h"
#include "text/unicode.h"

namespace headrace {

std::string Detokenizer::push(int32_t id) {
  if (id >= tokenizer_->vocab_size()) return "";
  if (tokenizer_->is_special(id) && skip_special_) return "";
  tokenizer_->append_bytes(id, first_, pending_);
  first_ = false;
  return text::take_certain_text(pending_);
}

std::string Detokenizer::finish() {
  std::string out = text::repair_utf8(pending_);
  pending_.clear();
  first_ = true;
  return out;
}

std::string Detokenizer::text_of(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) text += push(id);
  return text + finish();
}

}  // namespace headrace
