#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace headrace {

class Tokenizer;

/// Turns a stream of token ids into a stream of text that never ends inside a character: the bytes
/// of an unfinished one wait for the next token. What push() and finish() return, joined, is the
/// tokenizer's decode() of all ids that it has. Borrows the tokenizer. Confined to one thread.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  /// The text that has become certain with this token; often "". Bytes that no further byte can
  /// make valid come out as U+FFFD. Ids beyond the tokenizer's have no text: a model's vocabulary
  /// may be padded. A negative one is Error{kInvalidArgument}.
  std::string push(int32_t id);

  /// The rest: an unfinished character as one U+FFFD. The object is then as new.
  std::string finish();

  /// Of a whole sequence that a model generated; the object must be new, and is so afterwards.
  std::string text_of(std::span<const int32_t> ids);

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_ = true;
  std::string pending_;  // the unfinished character: at most 3 bytes between calls
};

}  // namespace headrace
