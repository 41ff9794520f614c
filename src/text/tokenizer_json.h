#pragma once

#include <string>

#include "base/file.h"
#include "text/tokenizer_parts.h"

namespace headrace::text {

inline constexpr const char* kTokenizerJsonName = "tokenizer.json";

/// Reads tokenizer.json (the format of Hugging Face's `tokenizers`, version 1.0) and the files
/// beside it: tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json
/// (ids of special tokens only), chat_template.jinja.
TokenizerParts load_tokenizer_json(FileSystem& fs, const std::string& dir);

}  // namespace headrace::text
