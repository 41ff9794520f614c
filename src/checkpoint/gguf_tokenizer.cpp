#include "checkpoint/gguf_tokenizer.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/text_check.h"

namespace headrace {
namespace {

constexpr const char* kPrefix = "tokenizer.ggml.";

/// Copies keys of a GGUF file into a JSON object.
class TokenizerExport {
 public:
  explicit TokenizerExport(const GgufFile& gguf) : gguf_(gguf) {
    json_["format"] = "headrace-gguf-tokenizer";
  }

  void text(const char* name, const std::string& key) {
    const std::string* value = gguf_.find_text(key);
    if (value == nullptr) return;
    check_utf8(*value, key);
    json_[name] = *value;
  }
  void texts(const char* name) {
    const std::string key = kPrefix + std::string(name);
    const auto* values = gguf_.find_texts(key);
    if (values == nullptr) return;
    for (const std::string& value : *values) check_utf8(value, key);
    json_[name] = *values;
  }
  void boolean(const char* name) {
    if (const bool* value = gguf_.find_boolean(kPrefix + std::string(name))) json_[name] = *value;
  }
  void token_id(const char* name, size_t vocab_size) {
    const std::string key = kPrefix + std::string(name);
    const int64_t* value = gguf_.find_integer(key);
    if (value == nullptr) return;
    if (*value < 0 || static_cast<uint64_t>(*value) >= vocab_size) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: {} is {} in a vocabulary of {}", gguf_.path(), key,
           *value, vocab_size);
    }
    json_[name] = *value;
  }
  void token_types(size_t vocab_size) {
    const char* key = "tokenizer.ggml.token_type";
    const auto* values = gguf_.find_integers(key);
    if (values == nullptr) return;
    if (values->size() != vocab_size) {
      fail(ErrorCode::kCorrupt, "[gguf] {}: {} has {} entries for {} tokens", gguf_.path(), key,
           values->size(), vocab_size);
    }
    json_["token_types"] = *values;
  }
  std::string dump() const { return json_.dump() + "\n"; }

 private:
  void check_utf8(const std::string& text, const std::string& key) const {
    if (is_utf8(text)) return;
    fail(ErrorCode::kCorrupt, "[gguf] {}: {} holds '{}', which is not UTF-8", gguf_.path(), key,
         printable(text));
  }

  const GgufFile& gguf_;
  nlohmann::ordered_json json_;
};

}  // namespace

std::string gguf_tokenizer_json(const GgufFile& gguf) {
  const auto* tokens = gguf.find_texts("tokenizer.ggml.tokens");
  if (tokens == nullptr) return "";
  TokenizerExport out(gguf);
  out.text("model", "tokenizer.ggml.model");
  out.text("pre", "tokenizer.ggml.pre");
  out.texts("tokens");
  out.texts("merges");
  out.token_types(tokens->size());
  for (const char* name :
       {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"}) {
    out.token_id(name, tokens->size());
  }
  out.boolean("add_bos_token");
  out.boolean("add_space_prefix");
  out.text("chat_template", "tokenizer.chat_template");
  return out.dump();
}

}  // namespace headrace
