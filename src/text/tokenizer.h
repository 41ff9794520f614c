#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "text/chat_template.h"

namespace headrace {

struct EncodeOptions {
  bool add_special_tokens = true;  // what the model's post-processor adds, such as a leading BOS
  bool parse_special = true;       // special tokens written out in the text become their ids
};

/// Turns text into token ids and back, with the ids of the model's own Hugging Face tokenizer.
/// Immutable; thread-safe.
class Tokenizer {
 public:
  /// Whether `dir` (an engine, checkpoint or Hugging Face folder) holds a tokenizer that load()
  /// would try to read: tokenizer.json or tokenizer_gguf.json.
  static bool exists(FileSystem& fs, const std::string& dir);

  /// Reads tokenizer.json (with tokenizer_config.json, special_tokens_map.json,
  /// generation_config.json and chat_template.jinja where they are) or tokenizer_gguf.json from
  /// `dir`. Error{kNotFound} if there is neither; Error{kUnsupported} naming a kind of tokenizer
  /// that is not built here (token ids still work then); Error{kCorrupt} for files that contradict
  /// themselves.
  static std::unique_ptr<Tokenizer> load(FileSystem& fs, const std::string& dir);

  ~Tokenizer();

  /// Ids of `text`. Bytes that are not UTF-8 count as U+FFFD, as after Python's
  /// `bytes.decode("utf-8", "replace")`. Linear in the text's length up to a logarithm.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// Text of `ids`, always valid UTF-8. An id outside the vocabulary is Error{kInvalidArgument}.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  /// The token as the vocabulary spells it (byte-level: "Ġthe"); "" for an id that the vocabulary
  /// leaves out. An id outside [0, vocab_size) is Error{kInvalidArgument}.
  std::string piece(int32_t id) const;

  /// The largest id plus one.
  int32_t vocab_size() const;

  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;

  /// Whether the token is one of the model's special tokens (left out by decode).
  bool is_special(int32_t id) const;

  /// Id of a token by its spelling in the vocabulary.
  std::optional<int32_t> find(std::string_view piece) const;

  /// Ids that end a generation: EOS, those of generation_config.json, and the token that the chat
  /// template ends a turn with. EOS first, none twice; empty if the files name none.
  const std::vector<int32_t>& stop_ids() const;

  /// Source of the model's chat template; empty if it has none.
  const std::string& chat_template() const;

  /// The conversation as prompt text, to be encoded with add_special_tokens = false.
  /// Error{kInvalidArgument} if the model has no chat template.
  std::string apply_chat_template(const std::vector<ChatMessage>& messages,
                                  const ChatOptions& options = {}) const;

  /// Appends the bytes that the token adds to a text; `first` says that no token came before. Bytes
  /// of one character may be spread over several tokens: see Detokenizer.
  void append_bytes(int32_t id, bool first, std::string& out) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace headrace
